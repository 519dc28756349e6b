// The backward of rms_norm, and of the norm in add_rms_norm (whose residual and delta both get d_x).
//
//   r = 1 / sqrt(mean(x^2) + epsilon);   g = d_out * weight
//   d_x += r * g - r^3 * x * mean(g * x);   d_weight += sum over rows of d_out * x * r
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

struct RmsNormBackwardArgs {
  ConstTensorView x;       // [num_tokens, hidden_size] f32
  ConstTensorView weight;  // [hidden_size] f32, bf16 or f16
  float epsilon = 0;
  ConstTensorView d_out;  // [num_tokens, hidden_size] f32, or bf16 on CUDA
  TensorView d_x;         // [num_tokens, hidden_size] f32, added to; does not overlap x or d_out
  TensorView d_weight;    // [hidden_size] f32, added to; absent for a frozen weight
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const RmsNormBackwardArgs& args);

}  // namespace nemoforge::ops
