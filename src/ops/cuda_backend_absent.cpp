// In place of the CUDA backend in a build without it.
#include "ops/device_choice.h"

namespace nemoforge::ops {

Result<std::unique_ptr<Backend>> make_cuda_backend() {
  return error(ErrorCode::kUnavailable, "this build of nemoforge has no CUDA backend",
               "build with `cmake --preset cuda && cmake --build --preset cuda`, or use --device cpu");
}

}  // namespace nemoforge::ops
