// The backward of causal_conv1d on CUDA.
#pragma once

#include "ops/causal_conv1d/causal_conv1d_backward.h"
#include "ops/cuda_training_context.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked; the index tensors of rows are in device memory.
void causal_conv1d_backward_cuda(const CausalConv1dBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
