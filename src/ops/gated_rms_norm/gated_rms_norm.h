// The norm at the end of a Mamba-2 mixer: gate, then normalise within each group of channels.
//
//   g = y * silu(z);   out = g / sqrt(mean_group(g^2) + epsilon) * weight,   silu(z) = z / (1 + exp(-z))
//
// Source: transformers models/nemotron_h/modeling_nemotron_h.py MambaRMSNormGated (norm_before_gate = false,
// group_size = intermediate_size / n_groups).
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// All arithmetic in fp32; one rounding to the dtype of `out`.
struct GatedRmsNormArgs {
  ConstTensorView y;  // [num_tokens, channels] f32 or bf16
  ConstTensorView
      z;  // [num_tokens, channels] f32 or bf16, row stride free (a column slice of in_proj's output)
  ConstTensorView weight;  // [channels] f32, bf16 or f16
  int64_t num_groups = 1;  // divides channels
  float epsilon = 0;
  TensorView out;  // [num_tokens, channels] f32 or bf16; may be y
};

// Throws InternalError unless the preconditions above hold (shapes, dtypes, aliasing; not the contents).
void check(const GatedRmsNormArgs& args);

}  // namespace nemoforge::ops
