// The backward of embedding on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/embedding/embedding_backward.h"

namespace nemoforge::ops {

// Launches into the context's stream. args are checked.
void embedding_backward_cuda(const EmbeddingBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
