#include "verify/gpu_probe.h"

#include <chrono>
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "io/json.h"
#include "verify/worker_message.h"
#include "verify/worker_process.h"

namespace nemoforge::verify {
namespace {

constexpr const char* kProbe = R"py(
import ctypes, json
driver = ctypes.CDLL("libcuda.so.1")
code = driver.cuInit(0)
if code: raise SystemExit(f"cuInit answers {code}")
count, found = ctypes.c_int(), []
driver.cuDeviceGetCount(ctypes.byref(count))
for index in range(count.value):
    device, name, size = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, 256, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    found.append({"name": name.value.decode(errors="replace"), "memory_bytes": size.value})
print(json.dumps({"gpus": found}))
)py";

constexpr const char* kHint =
    "verify with --backend interpret, or with --backend http on a machine that has one";

}  // namespace

Result<std::vector<GpuInfo>> find_gpus(const PythonEnvironment& python) {
  WorkerCommand command;
  command.argv = {python.interpreter, "-I", "-c", kProbe};
  command.environment = {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "CUDA_DEVICE_ORDER=PCI_BUS_ID"};
  const char* libraries = std::getenv("LD_LIBRARY_PATH");
  if (libraries != nullptr) command.environment.push_back(std::string("LD_LIBRARY_PATH=") + libraries);
  NF_TRY(WorkerProcess process, WorkerProcess::start(command));
  const auto status = process.wait(std::chrono::seconds(60));
  const auto answer = io::parse_json(process.standard_output());
  std::vector<GpuInfo> gpus;
  if (answer) {
    for (const io::Json& entry : array_of(*answer, "gpus")) {
      gpus.push_back({static_cast<int>(gpus.size()), get<std::string>(entry, "name", ""),
                      get<int64_t>(entry, "memory_bytes", 0)});
    }
  }
  if (!gpus.empty()) return gpus;
  std::string reason = status ? process.standard_error() : "the driver does not answer";
  while (!reason.empty() && reason.back() == '\n') reason.pop_back();
  reason = reason.substr(reason.rfind('\n') + 1);
  return error(ErrorCode::kUnsupported,
               "there is no NVIDIA GPU that can be used here" + (reason.empty() ? "" : " (" + reason + ")"),
               kHint);
}

}  // namespace nemoforge::verify
