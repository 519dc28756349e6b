// Shapes, types and batches on which causal_conv1d is tested and measured.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/ragged_batch.h"
#include "tensor/dtype.h"

namespace nemoforge::ops {

struct CausalConv1dCase {
  const char* reason = "";
  std::vector<SequenceCase> sequences = {{.num_rows = 1, .context_len = 9, .decode = true}, {.num_rows = 37}};
  int64_t channels = 768;
  int64_t conv_kernel = 4;
  DType x = DType::kF32;  // and of the state
  DType weight = DType::kF32;
  DType out = DType::kF32;
  bool bias = true;
  bool state = true;
  double scale = 1;  // of x
};

inline const std::vector<CausalConv1dCase>& causal_conv1d_cases() {
  const std::vector<SequenceCase> lengths = {{.num_rows = 1, .context_len = 1, .decode = true},
                                             {.num_rows = 1, .context_len = 0, .decode = true},
                                             {.num_rows = 1, .context_len = 2},
                                             {.num_rows = 2, .context_len = 0},
                                             {.num_rows = 2, .context_len = 64},
                                             {.num_rows = 0, .context_len = 5},
                                             {.num_rows = 31, .context_len = 3},
                                             {.num_rows = 33, .context_len = 0},
                                             {.num_rows = 100, .context_len = 7}};
  static const std::vector<CausalConv1dCase> cases = {
      {.reason = "base: the demo checkpoint"},
      {.reason = "Nemotron-3-Nano", .channels = 6144},
      {.reason = "Nemotron-3-Nano in bf16",
       .channels = 6144,
       .x = DType::kBF16,
       .weight = DType::kBF16,
       .out = DType::kBF16},
      {.reason = "sequences shorter and longer than the window and the tiles",
       .sequences = lengths,
       .channels = 65},
      {.reason = "the same in bf16",
       .sequences = lengths,
       .channels = 65,
       .x = DType::kBF16,
       .weight = DType::kBF16,
       .out = DType::kBF16},
      {.reason = "one channel", .channels = 1},
      {.reason = "31 channels", .channels = 31},
      {.reason = "33 channels", .channels = 33},
      {.reason = "several blocks and an odd rest", .channels = 555},
      {.reason = "smallest window", .sequences = lengths, .channels = 40, .conv_kernel = 2},
      {.reason = "largest window", .sequences = lengths, .channels = 40, .conv_kernel = 8},
      {.reason = "no bias", .bias = false},
      {.reason = "no state: training",
       .sequences = {{.num_rows = 40}, {.num_rows = 1}, {.num_rows = 3}},
       .state = false},
      {.reason = "fp16 weight", .weight = DType::kF16},
      {.reason = "fp32 to bf16", .out = DType::kBF16},
      {.reason = "activations that saturate silu", .scale = 300},
      {.reason = "no rows at all", .sequences = {{.num_rows = 0, .context_len = 0}}},
  };
  return cases;
}

}  // namespace nemoforge::ops
