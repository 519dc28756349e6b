// dropout on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/dropout/dropout.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void dropout_cuda(const DropoutArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
