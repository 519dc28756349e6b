// Whether a backend's kernels are wide enough for a model.
#pragma once

#include "base/result.h"
#include "model/config.h"
#include "ops/backend.h"

namespace nemoforge::model {

// kUnsupported naming the first field of config.json that is beyond `limits`, its value and the limit.
Status check_shapes(const ModelConfig& config, const ops::ShapeLimits& limits);

}  // namespace nemoforge::model
