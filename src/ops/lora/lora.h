// Low-rank adapters on linear layers: out += scale * (x A^T) B^T on runs of rows, each run with its own
// adapter.
//
// Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), eq. 3; scale = alpha / rank
// (alpha / sqrt(rank) for rank-stabilised LoRA). Runs serve several adapters in one batch, and the experts of
// each.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// One adapter pair of one linear layer (or of one expert of it).
struct LoraWeight {
  ConstTensorView a;  // [rank, in_features] f32 or bf16
  ConstTensorView b;  // [out_features, rank] f32 or bf16
  float scale = 1;
};

// Rows [begin, end) pass through *weight.
struct LoraRun {
  int64_t begin = 0;
  int64_t end = 0;
  const LoraWeight* weight = nullptr;
};

// Sums in fp32; x A^T is kept in fp32; out is rounded once after the addition. Runs do not overlap; rows
// outside every run keep their value. A row's result depends on that row and its adapter alone.
struct LoraAddArgs {
  ConstTensorView x;  // [num_rows, in_features] f32 or bf16, row stride free
  std::span<const LoraRun> runs;
  TensorView out;  // [num_rows, out_features] f32 or bf16, row stride free; updated; does not overlap x
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const LoraAddArgs& args);

}  // namespace nemoforge::ops
