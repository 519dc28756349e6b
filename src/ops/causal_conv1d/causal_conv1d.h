// The short causal depthwise convolution before a Mamba-2 scan, with its activation and its rolling state.
//
//   out[t, c] = silu(bias[c] + sum_{k=0}^{K-1} weight[c, k] * x[t - (K - 1) + k, c]),  silu(v) = v / (1 +
//   exp(-v))
//
// where x at positions before a sequence's first row comes from the sequence's state, and is zero before
// position 0. Source: Gu & Dao, "Mamba" (2023), section 3.4; causal-conv1d's causal_conv1d_fn with
// cu_seqlens.
#pragma once

#include "ops/ragged_rows.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// fp32 arithmetic, one rounding to the dtype of `out`.
struct CausalConv1dArgs {
  const RaggedRows* rows = nullptr;  // cu_seqlens, context_lens, state_slots
  ConstTensorView
      x;  // [num_tokens, channels] f32 or bf16, row stride free (a column slice of in_proj's output)
  ConstTensorView weight;  // [channels, conv_kernel] f32, bf16 or f16, conv_kernel 2 .. 8
  ConstTensorView bias;    // [channels]; absent for none
  TensorView
      conv_state;  // [num_slots, conv_kernel - 1, channels], dtype of x: the last inputs of each sequence,
                   // oldest first. Read where context_lens > 0, always left up to date (zeros before position
                   // 0). Absent: every sequence begins at position 0 and its state is not kept (training).
  TensorView out;  // [num_tokens, channels] f32 or bf16; does not overlap x
};

// Throws InternalError unless the preconditions above hold (shapes, dtypes, aliasing; not the contents).
void check(const CausalConv1dArgs& args);

}  // namespace nemoforge::ops
