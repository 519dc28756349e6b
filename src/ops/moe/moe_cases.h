// The cases of expert dispatch and combination, for tests, benchmarks and gradients.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace nemoforge::ops {

struct MoeCase {
  const char* name = "base";
  const char* reason = "experts with several, one and no tokens";
  int64_t num_tokens = 7;
  int64_t num_experts = 12;
  int64_t top_k = 3;
  int64_t hidden_size = 67;
  DType dtype = DType::kF32;      // of x and expert_out
  DType out_dtype = DType::kF32;  // of moe_combine
  bool shared = true;
  int64_t row_gap = 0;
};

[[nodiscard]] inline std::vector<MoeCase> moe_cases() {
  constexpr DType kBF16 = DType::kBF16;
  return {
      {},
      {.name = "no tokens", .reason = "a batch may be empty", .num_tokens = 0},
      {.name = "one token", .reason = "decode at batch 1", .num_tokens = 1},
      {.name = "one expert", .reason = "no sorting", .num_experts = 1, .top_k = 1},
      {.name = "all experts", .reason = "every token to every expert", .num_experts = 3},
      {.name = "one element", .reason = "smaller than a vector", .hidden_size = 1},
      {.name = "no shared expert", .reason = "optional", .shared = false},
      {.name = "bf16", .reason = "the served dtypes", .dtype = kBF16, .out_dtype = kBF16},
      {.name = "f32 experts, bf16 out", .reason = "one rounding", .out_dtype = kBF16},
      {.name = "bf16 experts, f32 out", .reason = "widening", .dtype = kBF16},
      {.name = "strided", .reason = "rows of wider matrices", .row_gap = 5},
      {.name = "many pairs",
       .reason = "more than one block sorts on the GPU, the last tile not full",
       .num_tokens = 700,
       .num_experts = 128,
       .top_k = 6,
       .hidden_size = 5},
      {.name = "nemotron",
       .reason = "the real sizes, enough rows for several tasks",
       .num_tokens = 50,
       .num_experts = 128,
       .top_k = 6,
       .hidden_size = 2688,
       .dtype = kBF16,
       .out_dtype = kBF16},
  };
}

}  // namespace nemoforge::ops
