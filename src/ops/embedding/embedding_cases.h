// The cases of the embedding, for tests, benchmarks and gradients.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace nemoforge::ops {

struct EmbeddingCase {
  const char* name = "base";
  const char* reason = "more rows than the table, so that ids repeat; an odd width";
  int64_t num_rows = 33;
  int64_t num_embeddings = 20;
  int64_t hidden_size = 67;
  DType table_dtype = DType::kF32;
  DType out_dtype = DType::kF32;
  int64_t table_row_gap = 0;
  int64_t out_row_gap = 0;
};

[[nodiscard]] inline std::vector<EmbeddingCase> embedding_cases() {
  constexpr DType kBF16 = DType::kBF16;
  return {
      {},
      {.name = "no rows", .reason = "a batch may be empty", .num_rows = 0},
      {.name = "one element", .reason = "smaller than a vector", .num_rows = 1, .hidden_size = 1},
      {.name = "bf16", .reason = "the served dtypes", .table_dtype = kBF16, .out_dtype = kBF16},
      {.name = "bf16 table", .reason = "fp32 compute on a bf16 checkpoint", .table_dtype = kBF16},
      {.name = "f16 table", .reason = "an fp16 checkpoint", .table_dtype = DType::kF16, .out_dtype = kBF16},
      {.name = "rounding", .reason = "f32 to bf16", .out_dtype = kBF16},
      {.name = "strided",
       .reason = "rows of wider matrices",
       .table_dtype = kBF16,
       .table_row_gap = 5,
       .out_row_gap = 3},
      {.name = "nemotron",
       .reason = "the real width, enough rows for several tasks",
       .num_rows = 100,
       .num_embeddings = 300,
       .hidden_size = 2688,
       .table_dtype = kBF16,
       .out_dtype = kBF16},
  };
}

}  // namespace nemoforge::ops
