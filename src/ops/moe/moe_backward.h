// The backward of moe_dispatch and moe_combine.
//
//   moe_dispatch:  d_x[t] += sum_k d_dispatched[row_of[t, k]]
//   moe_combine:   d_expert_out[row_of[t, k]] += expert_weights[t, k] * d_out[t]
//                  d_expert_weights[t, k] += d_out[t] . expert_out[row_of[t, k]]
//                  (the shared expert's output gets d_out itself)
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// T: f32, or bf16 on CUDA.
struct MoeDispatchBackwardArgs {
  ConstTensorView row_of;        // [num_tokens, top_k] i32
  ConstTensorView d_dispatched;  // [num_tokens * top_k, hidden_size] T
  TensorView d_x;                // [num_tokens, hidden_size] T or f32, added to in the order of k
};

struct MoeCombineBackwardArgs {
  ConstTensorView expert_out;      // [num_tokens * top_k, hidden_size] T
  ConstTensorView row_of;          // [num_tokens, top_k] i32
  ConstTensorView expert_weights;  // [num_tokens, top_k] f32
  ConstTensorView d_out;           // [num_tokens, hidden_size] T
  TensorView d_expert_out;         // [num_tokens * top_k, hidden_size] T, added to
  TensorView d_expert_weights;     // [num_tokens, top_k] f32, added to
};

// Throw InternalError unless shapes, dtypes and aliasing are as above.
void check(const MoeDispatchBackwardArgs& args);
void check(const MoeCombineBackwardArgs& args);

}  // namespace nemoforge::ops
