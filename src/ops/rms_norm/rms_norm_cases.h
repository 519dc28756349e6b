// Shapes and types on which rms_norm and add_rms_norm are tested and measured.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace nemoforge::ops {

struct RmsNormCase {
  const char* reason = "";
  int64_t num_tokens = 3;
  int64_t hidden_size = 256;
  DType x = DType::kF32;  // of add_rms_norm: the residual
  DType weight = DType::kF32;
  DType out = DType::kF32;  // and delta
  bool strided = false;
  bool in_place = false;  // out is x; of add_rms_norm: delta. Needs equal types.
  double scale = 1;       // of x
};

inline const std::vector<RmsNormCase>& rms_norm_cases() {
  static const std::vector<RmsNormCase> cases = {
      {.reason = "base: the demo checkpoint"},
      {.reason = "Nemotron-3-Nano", .num_tokens = 5, .hidden_size = 2688},
      {.reason = "Nemotron-3-Nano in bf16",
       .num_tokens = 5,
       .hidden_size = 2688,
       .x = DType::kBF16,
       .weight = DType::kBF16,
       .out = DType::kBF16},
      {.reason = "no rows", .num_tokens = 0},
      {.reason = "one channel", .hidden_size = 1},
      {.reason = "below two vectors", .hidden_size = 31},
      {.reason = "above two vectors", .hidden_size = 33},
      {.reason = "odd, unrolled loop, whole vectors and a tail", .hidden_size = 197, .strided = true},
      {.reason = "tails in bf16",
       .hidden_size = 61,
       .x = DType::kBF16,
       .weight = DType::kBF16,
       .out = DType::kBF16},
      {.reason = "strided rows", .strided = true},
      {.reason = "strided bf16 rows", .x = DType::kBF16, .out = DType::kBF16, .strided = true},
      {.reason = "in place", .in_place = true},
      {.reason = "bf16 in place", .x = DType::kBF16, .out = DType::kBF16, .in_place = true},
      {.reason = "fp16 weight", .weight = DType::kF16},
      {.reason = "fp16 weight with a tail", .hidden_size = 45, .weight = DType::kF16},
      {.reason = "bf16 to fp32", .x = DType::kBF16},
      {.reason = "fp32 to bf16", .out = DType::kBF16},
      {.reason = "epsilon decides", .scale = 1e-4},
      {.reason = "large activations", .scale = 1e4},
      {.reason = "enough rows for every thread", .num_tokens = 301, .hidden_size = 512},
  };
  return cases;
}

}  // namespace nemoforge::ops
