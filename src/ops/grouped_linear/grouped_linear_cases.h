// The cases of the grouped linear layers, for tests, benchmarks and gradients.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace nemoforge::ops {

struct GroupedLinearCase {
  const char* name = "base";
  const char* reason = "groups of every size from none to several tiles";
  std::vector<int64_t> group_rows = {3, 0, 1, 17, 2};
  int64_t in_features = 131;
  int64_t out_features = 70;
  DType x_dtype = DType::kF32;
  DType weight_dtype = DType::kF32;
  DType out_dtype = DType::kF32;
};

[[nodiscard]] inline std::vector<GroupedLinearCase> grouped_linear_cases() {
  constexpr DType kBF16 = DType::kBF16;
  constexpr DType kF16 = DType::kF16;
  return {
      {},
      {.name = "no rows", .reason = "a batch may be empty", .group_rows = {0, 0, 0}},
      {.name = "one group", .reason = "a plain linear layer", .group_rows = {5}},
      {.name = "empty ends", .reason = "first and last group without rows", .group_rows = {0, 4, 0}},
      {.name = "one row each", .reason = "decode at batch 1", .group_rows = {1, 0, 1, 1, 0, 0, 1, 1, 1}},
      {.name = "a large group", .reason = "several panels beside single rows", .group_rows = {1, 150, 1}},
      {.name = "bf16",
       .reason = "the served dtypes",
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "bf16, many rows",
       .reason = "tensor cores: groups around a tile's rows; the last panel and tile are partial",
       .group_rows = {130, 0, 1, 257, 64, 128, 0},
       .in_features = 136,
       .out_features = 70,
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "bf16 to f32, many rows",
       .reason = "one panel and a tail; an odd number of outputs, which pairs of columns cut",
       .group_rows = {40, 9},
       .in_features = 72,
       .out_features = 131,
       .x_dtype = kBF16,
       .weight_dtype = kBF16},
      {.name = "bf16, many groups",
       .reason = "more groups than lanes of a warp",
       .group_rows = {9,  0, 31, 8, 17, 2,  140, 0, 0,  12, 5,  1, 23, 44, 3, 0,  19, 7, 6, 0,
                      11, 8, 0,  2, 90, 13, 0,   4, 18, 21, 10, 0, 6,  6,  0, 25, 33, 1, 0, 16},
       .in_features = 64,
       .out_features = 24,
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "nemotron's inputs, prefill",
       .reason = "the longest sum on tensor cores",
       .group_rows = {60, 0, 9},
       .in_features = 2688,
       .out_features = 136,
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "f32 x, f16 weight", .reason = "fp32 compute on an fp16 checkpoint", .weight_dtype = kF16},
      {.name = "31 inputs, 33 outputs",
       .reason = "beside a vector's length",
       .in_features = 31,
       .out_features = 33},
      {.name = "nemotron up",
       .reason = "the experts' real shape, decode at batch 1",
       .group_rows = {1, 1, 0, 1},
       .in_features = 2688,
       .out_features = 1856,
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "nemotron down",
       .reason = "the experts' real shape",
       .group_rows = {2, 1},
       .in_features = 1856,
       .out_features = 2688,
       .weight_dtype = kBF16},
  };
}

}  // namespace nemoforge::ops
