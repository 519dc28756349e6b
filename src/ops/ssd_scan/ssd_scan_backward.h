// The backward of ssd_scan for whole sequences. With a = -exp(A_log), decay_t = exp(a dt_t) and the gradient
// H_t of the state h_t, from the last row of a sequence to its first:
//
//   H_t = d_y_t (outer) C_t + decay_{t+1} H_{t+1}                  [head_dim, state_size]
//   d_C_t += h_t^T d_y_t;   d_B_t += dt_t H_t^T x_t                (summed over the heads of a group)
//   d_x_t += dt_t H_t B_t + D d_y_t;   d_D += x_t . d_y_t
//   e_t = decay_t <H_t, h_{t-1}>;   d_dt_t = x_t . (H_t B_t) + a e_t
//   d_dt_raw_t += d_dt_t sigmoid(dt_raw_t + dt_bias);   d_dt_bias likewise;   d_A_log += a dt_t e_t
//
// Source: the chain rule on the recurrence of ssd_scan.h. States are computed again.
#pragma once

#include <cstdint>

#include "ops/ragged_rows.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Every sequence begins at position 0. Sums in f32. T: f32, or bf16 on CUDA.
struct SsdScanBackwardArgs {
  const RaggedRows* rows = nullptr;  // cu_seqlens, context_lens
  ConstTensorView x;                 // [num_tokens, num_heads * head_dim] T, row stride free
  ConstTensorView b;                 // [num_tokens, num_groups * state_size] T, row stride free
  ConstTensorView c;                 // [num_tokens, num_groups * state_size] T, row stride free
  ConstTensorView dt_raw;            // [num_tokens, num_heads] T, row stride free
  ConstTensorView a_log;             // [num_heads] f32
  ConstTensorView d;                 // [num_heads] f32
  ConstTensorView dt_bias;           // [num_heads] f32
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t num_groups = 0;  // divides num_heads
  int64_t state_size = 0;
  ConstTensorView d_y;   // [num_tokens, num_heads * head_dim] T
  TensorView d_x;        // like x, added to, as are all below
  TensorView d_b;        // like b
  TensorView d_c;        // like c
  TensorView d_dt_raw;   // like dt_raw
  TensorView d_a_log;    // [num_heads] f32; these three all there, or all absent where frozen
  TensorView d_d;        // [num_heads] f32
  TensorView d_dt_bias;  // [num_heads] f32
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const SsdScanBackwardArgs& args);

}  // namespace nemoforge::ops
