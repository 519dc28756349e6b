// Shapes and types on which gated_rms_norm is tested and measured.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace nemoforge::ops {

struct GatedRmsNormCase {
  const char* reason = "";
  int64_t num_tokens = 3;
  int64_t channels = 512;
  int64_t num_groups = 4;
  DType y = DType::kF32;
  DType z = DType::kF32;
  DType weight = DType::kF32;
  DType out = DType::kF32;
  bool z_strided = true;  // as in the model, where z is a column slice
  bool in_place = false;  // out is y; needs equal types
  double z_scale = 1;
};

inline const std::vector<GatedRmsNormCase>& gated_rms_norm_cases() {
  static const std::vector<GatedRmsNormCase> cases = {
      {.reason = "base: the demo checkpoint"},
      {.reason = "Nemotron-3-Nano", .num_tokens = 5, .channels = 4096, .num_groups = 8},
      {.reason = "Nemotron-3-Nano in bf16",
       .num_tokens = 5,
       .channels = 4096,
       .num_groups = 8,
       .y = DType::kBF16,
       .z = DType::kBF16,
       .weight = DType::kBF16,
       .out = DType::kBF16},
      {.reason = "no rows", .num_tokens = 0},
      {.reason = "one group", .num_groups = 1},
      {.reason = "a channel a group", .channels = 3, .num_groups = 3},
      {.reason = "groups of 31", .channels = 62, .num_groups = 2},
      {.reason = "groups of 33", .channels = 66, .num_groups = 2},
      {.reason = "odd groups in bf16",
       .channels = 3 * 77,
       .num_groups = 3,
       .y = DType::kBF16,
       .z = DType::kBF16,
       .out = DType::kBF16},
      {.reason = "contiguous z", .z_strided = false},
      {.reason = "in place", .in_place = true},
      {.reason = "fp16 weight", .weight = DType::kF16},
      {.reason = "bf16 y, fp32 z", .y = DType::kBF16},
      {.reason = "fp32 y, bf16 z", .z = DType::kBF16},
      {.reason = "fp32 to bf16", .out = DType::kBF16},
      {.reason = "gates that saturate: exp(-z) overflows fp32", .z_scale = 200},
      {.reason = "gates near zero", .z_scale = 1e-3},
      {.reason = "enough rows for every thread", .num_tokens = 301},
  };
  return cases;
}

}  // namespace nemoforge::ops
