// In place of training on CUDA in a build without it.
#include "base/check.h"
#include "ops/training_backend.h"

namespace nemoforge::ops {

Result<std::unique_ptr<TrainingBackend>> make_cuda_training_backend(Backend& backend) {
  NF_CHECK(false) << "a build without CUDA has a backend " << backend.name();
  return nullptr;
}

}  // namespace nemoforge::ops
