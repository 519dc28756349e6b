// The backward of router on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/router/router_backward.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void router_backward_cuda(const RouterBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
