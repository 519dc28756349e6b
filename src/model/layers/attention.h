// The attention mixer: causal grouped-query attention without positional encoding.
//
//   out = attention(x q_proj^T, x k_proj^T, x v_proj^T) o_proj^T,   scale 1 / sqrt(head_dim)
//
// Source: transformers models/nemotron_h/modeling_nemotron_h.py NemotronHAttention.
#pragma once

#include "model/layers/forward_context.h"
#include "model/weights.h"
#include "ops/attention/attention.h"

namespace nemoforge::model {

// What the mixer computes on the way, each in its own memory: the backward pass reads it.
struct AttentionActivations {
  TensorView q;         // [num_rows, q_size]
  TensorView k;         // [num_rows, kv_size]
  TensorView v;         // [num_rows, kv_size]
  TensorView attended;  // [num_rows, q_size]
  TensorView out;       // [num_rows, hidden_size] f32
};

// x [num_rows, hidden_size]. The keys and values of the rows are appended to `cache`, which is then read.
[[nodiscard]] AttentionActivations attention(const ForwardContext& context, const AttentionWeights& weights,
                                             const ConstTensorView& x, const ops::KvCacheView& cache);

}  // namespace nemoforge::model
