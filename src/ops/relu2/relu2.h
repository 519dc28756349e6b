// Squared ReLU, the activation of the experts and of the dense MLP: out = max(x, 0)^2.
//
// Source: So et al., "Primer" (2021), section 4; transformers ACT2FN["relu2"]. NaN stays NaN.
#pragma once

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// fp32 arithmetic, one rounding to the dtype of `out`.
struct Relu2Args {
  ConstTensorView x;  // [num_rows, features] f32 or bf16
  TensorView out;     // [num_rows, features], dtype of x; may be x
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const Relu2Args& args);

}  // namespace nemoforge::ops
