// The backward of grouped_linear on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/grouped_linear/grouped_linear_backward.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void grouped_linear_backward_cuda(const GroupedLinearBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
