// The head and its loss over pieces of the rows, so that all logits are never there at once.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor_view.h"
#include "train/layers/backward_context.h"
#include "train/train_batch.h"

namespace nemoforge::train {

// Bytes of the logits of a piece: in a cache's reach on the CPU; on a device, enough rows for its matrix
// products.
[[nodiscard]] inline int64_t logit_bytes(const ops::Backend& backend) {
  return int64_t{backend.shares_host_memory() ? 64 : 256} << 20;
}

// Cross-entropy of the rows with a target. hidden_states [num_rows, hidden_size]: after the final norm.
// d_hidden_states (like it, f32, zeros) gets scale * its gradient, and so do the head's weights; where it is
// absent, losses are all that is computed, and `tap`, where given, sees the logits. token_losses [num_rows],
// zeros at first, or empty.
[[nodiscard]] LossSum head_loss(const BackwardContext& context, const ops::LinearWeight& lm_head,
                                const ConstTensorView& hidden_states, std::span<const int32_t> targets,
                                float scale, const TensorView& d_hidden_states, std::span<float> token_losses,
                                const LogitsTap& tap = {});

}  // namespace nemoforge::train
