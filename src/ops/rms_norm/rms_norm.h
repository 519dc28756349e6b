// Root-mean-square layer normalisation, alone and fused with the residual addition before it.
//
//   rms_norm:      out = x / sqrt(mean(x^2) + epsilon) * weight                       (each row)
//   add_rms_norm:  residual = round(residual + delta);  out = rms_norm(residual)
//
// Source: Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4; transformers
// models/nemotron_h/modeling_nemotron_h.py NemotronHRMSNorm (the weight multiplies in fp32, one rounding at
// the end).
#pragma once

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Sums and products in fp32; one rounding to the dtype of `out`.
struct RmsNormArgs {
  ConstTensorView x;       // [num_tokens, hidden_size] f32 or bf16, row stride free
  ConstTensorView weight;  // [hidden_size] f32, bf16 or f16
  float epsilon = 0;
  TensorView out;  // [num_tokens, hidden_size] f32 or bf16; may be x
};

struct AddRmsNormArgs {
  TensorView residual;     // [num_tokens, hidden_size] f32 or bf16; updated in place, rounded to its dtype
                           // before the norm reads it (HF rounds here)
  ConstTensorView delta;   // [num_tokens, hidden_size] f32 or bf16; does not overlap residual
  ConstTensorView weight;  // [hidden_size] f32, bf16 or f16
  float epsilon = 0;
  TensorView out;  // [num_tokens, hidden_size] f32 or bf16; may be delta
};

// Throw InternalError unless the preconditions above hold (shapes, dtypes, aliasing; not the contents).
void check(const RmsNormArgs& args);
void check(const AddRmsNormArgs& args);

}  // namespace nemoforge::ops
