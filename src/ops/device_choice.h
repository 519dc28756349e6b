// Which backend runs the ops.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "ops/backend.h"

namespace nemoforge::ops {

// --device: kAuto takes the GPU where this build has the CUDA backend and the machine has a GPU, else the
// CPU.
enum class DeviceChoice { kAuto, kReference, kCpu, kCuda };

// "auto", "reference", "cpu" or "cuda"; kInvalidArgument names the choices.
[[nodiscard]] Result<DeviceChoice> parse_device_choice(const std::string& name);

// kUnavailable (with the mend) for kCuda where the build or the machine has no CUDA.
[[nodiscard]] Result<std::unique_ptr<Backend>> make_backend(DeviceChoice choice);

// The CUDA backend on the current device. Defined by the CUDA build (cuda_backend.cu) or, in a build without
// CUDA, by cuda_backend_absent.cpp, which says so: kUnavailable.
[[nodiscard]] Result<std::unique_ptr<Backend>> make_cuda_backend();

}  // namespace nemoforge::ops
