// The NVIDIA GPUs of this machine, as far as verification asks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "verify/python_environment.h"

namespace nemoforge::verify {

struct GpuInfo {
  int index = 0;  // in the order of the bus, which is that of the device nodes
  std::string name;
  int64_t memory_bytes = 0;
};

// Asks the driver, without PyTorch and without a context. kUnsupported, with the reason and the mend, where
// there is no GPU or no driver.
[[nodiscard]] Result<std::vector<GpuInfo>> find_gpus(const PythonEnvironment& python);

}  // namespace nemoforge::verify
