// The backward of causal grouped-query attention for whole sequences, whose keys and values are the batch's
// own rows. For a query head h of KV head g, with p = softmax(scale * q k^T) over j <= t (computed again):
//
//   d_v[j, g] += sum_t p[t, j] d_out[t, h];   d_p[t, j] = d_out[t, h] . v[j, g]
//   d_s[t, j] = p[t, j] (d_p[t, j] - sum_i p[t, i] d_p[t, i])
//   d_q[t, h] += scale * sum_j d_s[t, j] k[j, g];   d_k[j, g] += scale * sum_t d_s[t, j] q[t, h]
//
// Source: Dao, "FlashAttention-2" (2023), section 2.3.
#pragma once

#include <cstdint>

#include "ops/ragged_rows.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Every sequence begins at position 0. Sums in f32. T: f32, or bf16 on CUDA.
struct AttentionBackwardArgs {
  const RaggedRows* rows = nullptr;  // cu_seqlens, context_lens
  ConstTensorView q;                 // [num_tokens, num_heads * head_dim] T, row stride free
  ConstTensorView k;                 // [num_tokens, num_kv_heads * head_dim] T, row stride free
  ConstTensorView v;                 // like k
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;
  float scale = 0;
  ConstTensorView d_out;  // like q
  TensorView d_q;         // like q, added to
  TensorView d_k;         // like k, added to
  TensorView d_v;         // like k, added to
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const AttentionBackwardArgs& args);

}  // namespace nemoforge::ops
