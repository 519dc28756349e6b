// The backward of attention on CUDA.
#pragma once

#include "ops/attention/attention_backward.h"
#include "ops/cuda_training_context.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked; the index tensors of rows are in device memory.
void attention_backward_cuda(const AttentionBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
