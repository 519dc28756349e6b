// The cases of the adapters, for tests, benchmarks and gradients.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace nemoforge::ops {

// Rows [begin, end) pass through adapter `adapter_idx`, which has rank ranks[adapter_idx].
struct LoraCaseRun {
  int64_t begin = 0;
  int64_t end = 0;
  size_t adapter_idx = 0;
};

struct LoraCase {
  const char* name = "base";
  const char* reason = "two adapters of different ranks, with rows outside every run";
  int64_t num_rows = 13;
  int64_t in_features = 131;
  int64_t out_features = 70;
  std::vector<int64_t> ranks = {16, 5};
  std::vector<LoraCaseRun> runs = {{1, 4, 0}, {4, 9, 1}, {10, 12, 0}};
  DType x_dtype = DType::kF32;
  DType weight_dtype = DType::kF32;
  DType out_dtype = DType::kF32;
  int64_t x_row_gap = 0;
  int64_t out_row_gap = 0;
};

[[nodiscard]] inline std::vector<LoraCase> lora_cases() {
  constexpr DType kBF16 = DType::kBF16;
  return {
      {},
      {.name = "no runs", .reason = "a batch without adapters", .runs = {}},
      {.name = "no rows", .reason = "a batch may be empty", .num_rows = 0, .runs = {{0, 0, 0}}},
      {.name = "empty run", .reason = "an expert without rows", .runs = {{2, 2, 0}, {2, 3, 1}}},
      {.name = "out of order", .reason = "runs are a set", .runs = {{9, 13, 1}, {0, 9, 0}}},
      {.name = "rank 1", .reason = "the smallest", .ranks = {1}, .runs = {{0, 13, 0}}},
      {.name = "bf16",
       .reason = "the served dtypes",
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "f32 adapter on bf16",
       .reason = "adapters are trained in f32",
       .x_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "strided", .reason = "slices of wider matrices", .x_row_gap = 5, .out_row_gap = 3},
      {.name = "nemotron in_proj",
       .reason = "the real shape at the usual rank",
       .num_rows = 2,
       .in_features = 2688,
       .out_features = 10304,
       .ranks = {32},
       .runs = {{0, 2, 0}},
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
  };
}

}  // namespace nemoforge::ops
