// The backward of causal_conv1d for whole sequences: v = bias + conv(x), out = silu(v).
//
//   d_v[t, c] = d_out[t, c] * silu'(v[t, c])                     (v is computed again)
//   d_x[t, c] += sum_k weight[c, k] * d_v[t + (K - 1) - k, c]    (rows of the same sequence)
//   d_weight[c, k] += sum_t d_v[t, c] * x[t - (K - 1) + k, c];   d_bias[c] += sum_t d_v[t, c]
#pragma once

#include <cstdint>

#include "ops/ragged_rows.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Every sequence begins at position 0. Sums in f32. T: f32, or bf16 on CUDA.
struct CausalConv1dBackwardArgs {
  const RaggedRows* rows = nullptr;  // cu_seqlens, context_lens
  ConstTensorView x;                 // [num_tokens, channels] T, row stride free
  ConstTensorView weight;            // [channels, conv_kernel] f32, bf16 or f16, conv_kernel 2 .. 8
  ConstTensorView bias;              // [channels]; absent for none
  ConstTensorView d_out;             // [num_tokens, channels] T
  TensorView d_x;                    // [num_tokens, channels] T, row stride free, added to
  TensorView d_weight;               // [channels, conv_kernel] f32, added to; absent for a frozen weight
  TensorView d_bias;                 // [channels] f32, added to; absent for a frozen bias or none
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const CausalConv1dBackwardArgs& args);

}  // namespace nemoforge::ops
