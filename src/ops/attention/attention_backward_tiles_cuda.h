// Attention's backward in tiles on tensor cores.
#pragma once

#include "ops/attention/attention_backward.h"
#include "ops/cuda_training_context.h"

namespace nemoforge::ops {

// Whether the kernels apply: elements in bf16, heads of 32, 64 or 128 channels.
[[nodiscard]] bool attention_backward_has_tiles(const AttentionBackwardArgs& args);

// For arguments to which they do. Weights and their gradients are rounded to bf16 for the products with rows,
// sums are f32.
void attention_backward_tiles(const AttentionBackwardArgs& args, CudaTrainingContext& context);

}  // namespace nemoforge::ops
