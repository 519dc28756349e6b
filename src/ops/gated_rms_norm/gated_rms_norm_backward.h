// The backward of gated_rms_norm.
//
//   g = y * silu(z);   r = 1 / sqrt(mean_group(g^2) + epsilon);   e = d_out * weight
//   d_g = r * e - r^3 * g * mean_group(e * g)
//   d_y += d_g * silu(z);   d_z += d_g * y * silu'(z);   d_weight += sum over rows of d_out * g * r
//   silu'(z) = s (1 + z (1 - s)),   s = 1 / (1 + exp(-z))
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// T: f32, or bf16 on CUDA.
struct GatedRmsNormBackwardArgs {
  ConstTensorView y;       // [num_tokens, channels] f32
  ConstTensorView z;       // [num_tokens, channels] T, row stride free
  ConstTensorView weight;  // [channels] f32, bf16 or f16
  int64_t num_groups = 1;  // divides channels
  float epsilon = 0;
  ConstTensorView d_out;  // [num_tokens, channels] T
  TensorView d_y;         // [num_tokens, channels] T, added to
  TensorView d_z;         // [num_tokens, channels] T, row stride free, added to
  TensorView d_weight;    // [channels] f32, added to; absent for a frozen weight
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const GatedRmsNormBackwardArgs& args);

}  // namespace nemoforge::ops
