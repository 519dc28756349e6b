// The backward of lora on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/lora/lora_backward.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void lora_backward_cuda(const LoraBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
