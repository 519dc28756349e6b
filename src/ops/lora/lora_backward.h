// The backward of lora_add, out += scale * (x A^T) B^T on runs of rows.
//
//   u = scale * d_out B;   d_x += u A;   d_A += u^T x;   d_B += scale * d_out^T (x A^T)
#pragma once

#include <cstdint>
#include <span>

#include "ops/lora/lora.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Rows [begin, end) pass through *weight, whose gradients are d_a and d_b.
struct LoraBackwardRun {
  int64_t begin = 0;
  int64_t end = 0;
  const LoraWeight* weight = nullptr;
  TensorView d_a;  // [rank, in_features] f32, added to
  TensorView d_b;  // [out_features, rank] f32, added to
};

// T: f32, or bf16 on CUDA, where the products of rows may round u and x A^T to bf16.
// Runs do not overlap and have different weights.
struct LoraBackwardArgs {
  ConstTensorView x;  // [num_rows, in_features] T, row stride free
  std::span<const LoraBackwardRun> runs;
  ConstTensorView offsets = {};  // as of LoraAddArgs
  ConstTensorView d_out;         // [num_rows, out_features] T, row stride free
  TensorView d_x;                // [num_rows, in_features] T or f32, row stride free, added to
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const LoraBackwardArgs& args);

}  // namespace nemoforge::ops
