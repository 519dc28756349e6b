// The backward of linear, out = x W^T + bias.
//
//   d_x += d_out W;   d_W += d_out^T x;   d_bias += sum over rows of d_out
#pragma once

#include <cstdint>

#include "ops/linear/linear.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// T: f32, or bf16 on CUDA, where d_out is rounded to bf16 for products with x or a weight of bf16 where both
// are of bf16. Sums in f32. Row r of d_x depends on row r of d_out alone.
struct LinearBackwardArgs {
  ConstTensorView x;  // [num_rows, in_features] T, row stride free
  const LinearWeight* weight = nullptr;
  ConstTensorView d_out;  // [num_rows, out_features] T or f32, row stride free
  TensorView d_x;  // [num_rows, in_features] T or f32, row stride free, added to; absent where not wanted
  TensorView d_weight;  // [out_features, in_features] f32, added to; absent for a frozen weight
  TensorView d_bias;    // [out_features] f32, added to; absent for a frozen bias or none
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const LinearBackwardArgs& args);

}  // namespace nemoforge::ops
