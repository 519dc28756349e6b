// In place of the updates on CUDA in a build without it.
#include "base/check.h"
#include "ops/parameter_updates.h"

namespace nemoforge::ops {

Result<std::unique_ptr<ParameterUpdates>> make_cuda_parameter_updates(
    Backend& backend, std::span<const ParameterSegment> /*segments*/, const MomentCodes& /*codes*/) {
  NF_CHECK(false) << "a build without CUDA has a backend " << backend.name();
  return nullptr;
}

}  // namespace nemoforge::ops
