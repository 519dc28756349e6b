// The backward of relu2: d_x += 2 * max(x, 0) * d_out.
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// T: f32, or bf16 on CUDA.
struct Relu2BackwardArgs {
  ConstTensorView x;      // [num_rows, features] T
  ConstTensorView d_out;  // [num_rows, features] T
  TensorView d_x;         // [num_rows, features] T, added to
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const Relu2BackwardArgs& args);

}  // namespace nemoforge::ops
