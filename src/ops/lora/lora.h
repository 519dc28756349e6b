// Low-rank adapters on linear layers: out += scale * (x A^T) B^T on runs of rows, each run with its own
// adapter.
//
// Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), eq. 3; scale = alpha / rank
// (alpha / sqrt(rank) for rank-stabilised LoRA). Runs serve several adapters in one batch, and the experts of
// each.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

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
  // [runs.size() + 1] i32 in the backend's memory, ascending: run i has rows offsets[i] .. offsets[i + 1] - 1
  // in place of its begin and end, which the host then need not know. Absent: as the runs say.
  ConstTensorView offsets = {};
  TensorView out;  // [num_rows, out_features] f32 or bf16, row stride free; updated; does not overlap x
};

// Throws InternalError unless shapes, dtypes and aliasing are as above; does not read the offsets, which may
// be on a device.
void check(const LoraAddArgs& args);

// The runs with begin and end from offsets in host memory.
template <typename Run>
[[nodiscard]] std::vector<Run> runs_at(const ConstTensorView& offsets, std::span<const Run> runs) {
  std::vector<Run> result(runs.begin(), runs.end());
  for (size_t i = 0; i < result.size(); ++i) {
    result[i].begin = offsets.data<int32_t>()[i];
    result[i].end = offsets.data<int32_t>()[i + 1];
  }
  return result;
}

}  // namespace nemoforge::ops
