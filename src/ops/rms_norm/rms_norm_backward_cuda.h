// The backward of rms_norm on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/rms_norm/rms_norm_backward.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void rms_norm_backward_cuda(const RmsNormBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
