// Causal grouped-query attention over a paged KV cache, for decode tokens and prefill chunks together.
//
//   out[t, h] = sum_j softmax_j(scale * q[t, h] . k[j, g]) v[j, g],   j = 0 .. position(t),  g = h / (heads /
//   kv_heads)
//
// No positional encoding (nemotron_h has none). Source: Ainslie et al., "GQA" (2023); Kwon et al.,
// "PagedAttention" (2023).
#pragma once

#include <cstdint>

#include "ops/ragged_rows.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Position p of a sequence lives in block block_tables[s, p / block_size], at place p % block_size.
struct KvCacheView {
  TensorView k;  // [num_blocks, block_size, num_kv_heads * head_dim] f32 or bf16
  TensorView v;  // like k
  [[nodiscard]] int64_t block_size() const { return k.size(1); }
};

// Writes the keys and values of the batch's rows at their positions. Exact where dtypes agree, else one
// rounding.
struct KvCacheAppendArgs {
  const RaggedRows* rows = nullptr;  // cu_seqlens, context_lens, block_tables
  ConstTensorView k;                 // [num_tokens, num_kv_heads * head_dim] f32 or bf16, row stride free
  ConstTensorView v;                 // like k
  KvCacheView cache;
};

// Scores, softmax and sums in fp32, one rounding to the dtype of `out`. The keys of the batch's own rows have
// been appended before. Keys are visited in tiles that begin at multiples of a constant, so that a row's
// result depends on its sequence alone and chunked prefill gives the bits of whole prefill.
struct AttentionArgs {
  const RaggedRows* rows = nullptr;  // cu_seqlens, context_lens, block_tables
  ConstTensorView q;                 // [num_tokens, num_heads * head_dim] f32 or bf16, row stride free
  KvCacheView cache;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;
  float scale = 0;
  TensorView out;  // [num_tokens, num_heads * head_dim] f32 or bf16; does not overlap q
};

// Throw InternalError unless the preconditions above hold (shapes, dtypes, aliasing; not the contents).
void check(const KvCacheAppendArgs& args);
void check(const AttentionArgs& args);

}  // namespace nemoforge::ops
