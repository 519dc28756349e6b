// The backward of relu2 on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/relu2/relu2_backward.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void relu2_backward_cuda(const Relu2BackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
