// The backward of gated_rms_norm on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/gated_rms_norm/gated_rms_norm_backward.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void gated_rms_norm_backward_cuda(const GatedRmsNormBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
