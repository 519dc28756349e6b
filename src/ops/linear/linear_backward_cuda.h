// The backward of linear on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/linear/linear_backward.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void linear_backward_cuda(const LinearBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
