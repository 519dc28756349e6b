// Shapes, types and batches on which ssd_scan is tested and measured.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/ragged_batch.h"
#include "tensor/dtype.h"

namespace nemoforge::ops {

struct SsdScanCase {
  const char* reason = "";
  std::vector<SequenceCase> sequences = {{.num_rows = 1, .context_len = 9, .decode = true}, {.num_rows = 70}};
  int64_t num_heads = 16;
  int64_t head_dim = 32;
  int64_t num_groups = 4;
  int64_t state_size = 64;
  int64_t chunk_size = 64;
  DType x = DType::kF32;  // and b, c, dt_raw, y
  bool state = true;
  bool in_place = false;     // y is x
  double dt_bias_mean = -3;  // softplus of it: steps of 0.05, as trained models have
  double dt_bias_scale = 1;
  double a_log_mean = 1;      // A = -e
  bool aligned_rows = false;  // rows of x, b and c begin at multiples of 16 bytes, as the model has them
};

inline const std::vector<SsdScanCase>& ssd_scan_cases() {
  const std::vector<SequenceCase> nemotron = {{.num_rows = 1, .context_len = 900, .decode = true},
                                              {.num_rows = 150}};
  const std::vector<SequenceCase> lengths = {{.num_rows = 1, .context_len = 1, .decode = true},
                                             {.num_rows = 1, .context_len = 0, .decode = true},
                                             {.num_rows = 1, .context_len = 31},
                                             {.num_rows = 0, .context_len = 3},
                                             {.num_rows = 0, .context_len = 0},
                                             {.num_rows = 9, .context_len = 0},
                                             {.num_rows = 31, .context_len = 1},
                                             {.num_rows = 33, .context_len = 0},
                                             {.num_rows = 140, .context_len = 61}};
  static const std::vector<SsdScanCase> cases = {
      {.reason = "base: the demo checkpoint"},
      {.reason = "Nemotron-3-Nano",
       .sequences = nemotron,
       .num_heads = 64,
       .head_dim = 64,
       .num_groups = 8,
       .state_size = 128,
       .chunk_size = 128},
      {.reason = "Nemotron-3-Nano in bf16",
       .sequences = nemotron,
       .num_heads = 64,
       .head_dim = 64,
       .num_groups = 8,
       .state_size = 128,
       .chunk_size = 128,
       .x = DType::kBF16},
      {.reason = "sequences around the chunk's ends", .sequences = lengths, .num_heads = 4, .num_groups = 2},
      {.reason = "the same in bf16",
       .sequences = lengths,
       .num_heads = 4,
       .num_groups = 2,
       .x = DType::kBF16},
      {.reason = "the same with aligned rows",
       .sequences = lengths,
       .num_heads = 4,
       .num_groups = 2,
       .x = DType::kBF16,
       .aligned_rows = true},
      {.reason = "Nemotron-3-Nano's heads in bf16: several chunks, sequences around their ends",
       .sequences = lengths,
       .num_heads = 4,
       .head_dim = 64,
       .num_groups = 2,
       .state_size = 128,
       .chunk_size = 128,
       .x = DType::kBF16,
       .aligned_rows = true},
      {.reason = "bf16: a head that tiles of channels cut, in place",
       .sequences = lengths,
       .num_heads = 2,
       .head_dim = 40,
       .num_groups = 1,
       .x = DType::kBF16,
       .in_place = true},
      {.reason = "bf16 without state: training",
       .sequences = {{.num_rows = 100}, {.num_rows = 1}, {.num_rows = 12}},
       .x = DType::kBF16,
       .state = false},
      {.reason = "bf16: steps so large that the state forgets at once",
       .x = DType::kBF16,
       .dt_bias_mean = 40,
       .dt_bias_scale = 20},
      {.reason = "bf16: steps so small that exp(dt) underflows in part",
       .x = DType::kBF16,
       .dt_bias_mean = -80,
       .dt_bias_scale = 20},
      {.reason = "bf16: decay beyond fp32's exponents", .x = DType::kBF16, .a_log_mean = 95},
      {.reason = "bf16: fast decay: exp(A) underflows", .x = DType::kBF16, .a_log_mean = 8},
      {.reason = "bf16: no decay to speak of", .x = DType::kBF16, .a_log_mean = -20},
      {.reason = "chunks of 256, beyond what one product handles",
       .sequences = {{.num_rows = 300, .context_len = 100}},
       .num_heads = 4,
       .chunk_size = 256},
      {.reason = "odd chunks", .sequences = lengths, .num_heads = 4, .num_groups = 2, .chunk_size = 37},
      {.reason = "chunks of one row", .sequences = lengths, .num_heads = 4, .num_groups = 2, .chunk_size = 1},
      {.reason = "odd head and state",
       .sequences = lengths,
       .num_heads = 3,
       .head_dim = 5,
       .num_groups = 1,
       .state_size = 7},
      {.reason = "head of 33, state of 31",
       .sequences = lengths,
       .num_heads = 2,
       .head_dim = 33,
       .num_groups = 2,
       .state_size = 31},
      {.reason = "one head of one element", .num_heads = 1, .head_dim = 1, .num_groups = 1, .state_size = 1},
      {.reason = "no state: training",
       .sequences = {{.num_rows = 100}, {.num_rows = 1}, {.num_rows = 12}},
       .state = false},
      {.reason = "y in place of x", .sequences = lengths, .num_heads = 4, .num_groups = 2, .in_place = true},
      {.reason = "steps so large that the state forgets at once", .dt_bias_mean = 40, .dt_bias_scale = 20},
      {.reason = "steps so small that exp(dt) underflows in part", .dt_bias_mean = -80, .dt_bias_scale = 20},
      {.reason = "fast decay: exp(A) underflows", .a_log_mean = 8},
      {.reason = "decay beyond fp32's exponents", .a_log_mean = 95},
      {.reason = "no decay to speak of", .a_log_mean = -20},
  };
  return cases;
}

}  // namespace nemoforge::ops
