// The cases of the linear layer, for tests, benchmarks and gradients: a base and rows that vary one thing.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace nemoforge::ops {

struct LinearCase {
  const char* name = "base";
  const char* reason = "every dimension larger than a tile, none a multiple of one";
  int64_t num_rows = 7;
  int64_t in_features = 131;
  int64_t out_features = 70;
  DType x_dtype = DType::kF32;
  DType weight_dtype = DType::kF32;
  DType out_dtype = DType::kF32;
  bool bias = false;
  int64_t num_decode_rows = 0;
  int64_t x_row_gap = 0;    // elements between rows beyond in_features
  int64_t out_row_gap = 0;  // elements between rows beyond out_features
};

[[nodiscard]] inline std::vector<LinearCase> linear_cases() {
  constexpr DType kBF16 = DType::kBF16;
  constexpr DType kF16 = DType::kF16;
  return {
      {},
      {.name = "no rows", .reason = "a batch may be empty", .num_rows = 0},
      {.name = "one row", .reason = "decode has a kernel shape of its own", .num_rows = 1},
      {.name = "one of everything",
       .reason = "smaller than any vector",
       .num_rows = 1,
       .in_features = 1,
       .out_features = 1},
      {.name = "one input feature", .reason = "only the tail of the vector loop", .in_features = 1},
      {.name = "31 inputs, bf16",
       .reason = "one less than a vector of bf16 pairs",
       .in_features = 31,
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "33 inputs, bf16",
       .reason = "one more than a vector of bf16 pairs, an odd tail",
       .in_features = 33,
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "one output", .reason = "a tile of repeated weight rows", .out_features = 1},
      {.name = "rows of several panels", .reason = "a ragged last panel and tile", .num_rows = 141},
      {.name = "several row blocks",
       .reason = "tasks split rows as well",
       .num_rows = 300,
       .in_features = 160,
       .out_features = 130},
      {.name = "bias", .reason = "added before rounding", .bias = true},
      {.name = "bf16 bias", .reason = "bias in the weight's dtype", .weight_dtype = kBF16, .bias = true},
      {.name = "strided",
       .reason = "x and out are column slices of wider matrices",
       .x_row_gap = 9,
       .out_row_gap = 5},
      {.name = "strided bf16",
       .reason = "rows at odd addresses",
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16,
       .x_row_gap = 3,
       .out_row_gap = 1},
      {.name = "decode rows first", .reason = "both kernels in one call", .num_decode_rows = 4},
      {.name = "f32 x, bf16 weight", .reason = "fp32 compute on a bf16 checkpoint", .weight_dtype = kBF16},
      {.name = "f32 x, f16 weight", .reason = "fp32 compute on an fp16 checkpoint", .weight_dtype = kF16},
      {.name = "bf16 x, f32 weight", .reason = "router weights are f32", .x_dtype = kBF16},
      {.name = "bf16 x, f16 weight",
       .reason = "bf16 compute on an fp16 checkpoint",
       .x_dtype = kBF16,
       .weight_dtype = kF16,
       .out_dtype = kBF16},
      {.name = "bf16 x, bf16 weight, f32 out",
       .reason = "logits leave the head in f32",
       .x_dtype = kBF16,
       .weight_dtype = kBF16},
      {.name = "demo in_proj",
       .reason = "the small checkpoint's shape",
       .num_rows = 3,
       .in_features = 256,
       .out_features = 1704,
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "nemotron in_proj",
       .reason = "the longest sums at the most outputs",
       .num_rows = 2,
       .in_features = 2688,
       .out_features = 10304,
       .x_dtype = kBF16,
       .weight_dtype = kBF16,
       .out_dtype = kBF16},
      {.name = "nemotron out_proj",
       .reason = "the longest sums, fp32 compute",
       .num_rows = 2,
       .in_features = 4096,
       .out_features = 2688,
       .weight_dtype = kBF16},
  };
}

}  // namespace nemoforge::ops
