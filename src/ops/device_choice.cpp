#include "ops/device_choice.h"

namespace nemoforge::ops {

Result<DeviceChoice> parse_device_choice(const std::string& name) {
  if (name == "auto") return DeviceChoice::kAuto;
  if (name == "reference") return DeviceChoice::kReference;
  if (name == "cpu") return DeviceChoice::kCpu;
  if (name == "cuda") return DeviceChoice::kCuda;
  return error(ErrorCode::kInvalidArgument, "unknown device '" + name + "'", "auto, cpu, cuda or reference");
}

Result<std::unique_ptr<Backend>> make_backend(DeviceChoice choice) {
  switch (choice) {
    case DeviceChoice::kReference:
      return make_reference_backend();
    case DeviceChoice::kCpu:
      return make_cpu_backend();
    case DeviceChoice::kCuda:
      return make_cuda_backend();
    case DeviceChoice::kAuto:
      if (auto backend = make_cuda_backend()) return backend;
      return make_cpu_backend();
  }
  return error(ErrorCode::kInvalidArgument, "unknown device");
}

}  // namespace nemoforge::ops
