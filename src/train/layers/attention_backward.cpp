#include <cmath>

#include "train/layers/mixers_backward.h"

namespace nemoforge::train {

void attention_backward(const BackwardContext& context, const model::AttentionWeights& weights,
                        const ConstTensorView& x, const model::AttentionActivations& activations,
                        const ConstTensorView& d_out, const TensorView& d_x) {
  using enum model::LoraTarget;
  const model::ModelConfig& config = context.forward.config;
  const TensorView d_attended = context.zeros(x.size(0), config.q_size());
  linear_backward(context, activations.attended, weights.o_proj, kOProj, d_out, d_attended);
  const TensorView d_q = context.zeros(x.size(0), config.q_size());
  const TensorView d_k = context.zeros(x.size(0), config.kv_size());
  const TensorView d_v = context.zeros(x.size(0), config.kv_size());
  context.training.attention_backward({.rows = &context.forward.rows,
                                       .q = activations.q,
                                       .k = activations.k,
                                       .v = activations.v,
                                       .num_heads = config.num_attention_heads,
                                       .num_kv_heads = config.num_key_value_heads,
                                       .head_dim = config.head_dim,
                                       .scale = 1 / std::sqrt(static_cast<float>(config.head_dim)),
                                       .d_out = d_attended,
                                       .d_q = d_q,
                                       .d_k = d_k,
                                       .d_v = d_v});
  linear_backward(context, x, weights.q_proj, kQProj, d_q, d_x);
  linear_backward(context, x, weights.k_proj, kKProj, d_k, d_x);
  linear_backward(context, x, weights.v_proj, kVProj, d_v, d_x);
}

}  // namespace nemoforge::train
