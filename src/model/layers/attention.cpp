#include "model/layers/attention.h"

#include <cmath>

namespace nemoforge::model {

AttentionActivations attention(const ForwardContext& context, const AttentionWeights& weights,
                               const ConstTensorView& x, const ops::KvCacheView& cache) {
  const ModelConfig& config = context.config;
  AttentionActivations out;
  // The products with k and v have too few columns to fill a device by themselves.
  context.backend.concurrently([&] { out.q = linear(context, x, weights.q_proj, LoraTarget::kQProj); },
                               [&] {
                                 out.k = linear(context, x, weights.k_proj, LoraTarget::kKProj);
                                 out.v = linear(context, x, weights.v_proj, LoraTarget::kVProj);
                               });
  context.backend.kv_cache_append({.rows = &context.rows, .k = out.k, .v = out.v, .cache = cache});
  out.attended = context.take(config.q_size());
  context.backend.attention({.rows = &context.rows,
                             .q = out.q,
                             .cache = cache,
                             .num_heads = config.num_attention_heads,
                             .num_kv_heads = config.num_key_value_heads,
                             .head_dim = config.head_dim,
                             .scale = 1 / std::sqrt(static_cast<float>(config.head_dim)),
                             .out = out.attended});
  out.out = linear_to_residual(context, out.attended, weights.o_proj, LoraTarget::kOProj);
  return out;
}

}  // namespace nemoforge::model
