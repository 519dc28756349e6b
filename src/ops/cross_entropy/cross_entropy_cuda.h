// cross_entropy on CUDA.
#pragma once

#include "ops/cross_entropy/cross_entropy.h"
#include "ops/cuda_training_context.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void cross_entropy_cuda(const CrossEntropyArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
