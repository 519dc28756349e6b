// The cases of the squared ReLU, for tests, benchmarks and gradients.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace nemoforge::ops {

struct Relu2Case {
  const char* name = "base";
  const char* reason = "several vectors and a tail";
  int64_t num_rows = 3;
  int64_t features = 67;
  DType dtype = DType::kF32;
  int64_t row_gap = 0;
};

[[nodiscard]] inline std::vector<Relu2Case> relu2_cases() {
  return {
      {},
      {.name = "no rows", .reason = "an expert without tokens", .num_rows = 0},
      {.name = "one element", .reason = "smaller than a vector", .num_rows = 1, .features = 1},
      {.name = "31", .reason = "one less than a vector of bf16", .features = 31, .dtype = DType::kBF16},
      {.name = "33", .reason = "one more than a vector of bf16", .features = 33, .dtype = DType::kBF16},
      {.name = "strided", .reason = "rows of a wider matrix", .dtype = DType::kBF16, .row_gap = 5},
      {.name = "nemotron experts",
       .reason = "the real width, enough rows for several tasks",
       .num_rows = 96,
       .features = 1856,
       .dtype = DType::kBF16},
  };
}

}  // namespace nemoforge::ops
