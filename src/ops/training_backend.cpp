#include "ops/training_backend.h"

#include <string>

#include "ops/cpu_training_backend.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

Result<std::unique_ptr<TrainingBackend>> make_training_backend(Backend& backend) {
  if (backend.name() == "reference") return std::make_unique<ReferenceTrainingBackend>();
  if (backend.name() == "cpu") return std::make_unique<CpuTrainingBackend>(ThreadPool::global());
  if (backend.name() == "cuda") return make_cuda_training_backend(backend);
  return error(ErrorCode::kUnsupported,
               "training does not run on the " + std::string(backend.name()) + " backend yet",
               "train with --device cpu");
}

}  // namespace nemoforge::ops
