// Moving rows to their experts and back.
//
//   moe_dispatch: rows sorted by expert (stable in token order): out[r] = x[row_tokens[r]]
//   moe_combine:  out[t] = sum_{k=0}^{top_k-1} expert_weights[t, k] * expert_out[row_of[t, k]]  (+ shared[t])
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

struct MoeDispatchArgs {
  ConstTensorView x;           // [num_tokens, hidden_size] f32 or bf16
  ConstTensorView expert_ids;  // [num_tokens, top_k] i32, each in [0, num_experts), distinct within a token
  int64_t num_experts = 0;
  TensorView offsets;     // [num_experts + 1] i32: expert e's rows are offsets[e] .. offsets[e + 1] - 1
  TensorView row_tokens;  // [num_tokens * top_k] i32: the token of each sorted row
  TensorView row_of;      // [num_tokens, top_k] i32: the sorted row of a token's k-th expert
  TensorView out;         // [num_tokens * top_k, hidden_size], dtype of x: the sorted rows; exact copies
};

// Sums in fp32 in the order of k, the shared expert's row last; one rounding to the dtype of `out`.
struct MoeCombineArgs {
  ConstTensorView expert_out;      // [num_tokens * top_k, hidden_size] f32 or bf16
  ConstTensorView row_of;          // [num_tokens, top_k] i32
  ConstTensorView expert_weights;  // [num_tokens, top_k] f32
  ConstTensorView shared;  // [num_tokens, hidden_size], dtype of expert_out; absent for none; may be out
  TensorView out;          // [num_tokens, hidden_size] f32 or bf16
};

// Throw InternalError unless shapes, dtypes and aliasing are as above; they do not read expert_ids and
// row_of, whose memory may be a device's.
void check(const MoeDispatchArgs& args);
void check(const MoeCombineArgs& args);

}  // namespace nemoforge::ops
