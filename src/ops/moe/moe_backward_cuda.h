// The backward of moe_dispatch and moe_combine on CUDA.
#pragma once

#include "ops/cuda_training_context.h"
#include "ops/moe/moe_backward.h"

namespace nemoforge::ops {

// Launch into the context's stream. args are checked.
void moe_dispatch_backward_cuda(const MoeDispatchBackwardArgs& args, CudaTrainingContext& context);
void moe_combine_backward_cuda(const MoeCombineBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
