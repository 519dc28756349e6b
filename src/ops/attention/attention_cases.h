// Shapes, types and batches on which attention and kv_cache_append are tested and measured.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/ragged_batch.h"
#include "tensor/dtype.h"

namespace nemoforge::ops {

struct AttentionCase {
  const char* reason = "";
  std::vector<SequenceCase> sequences = {{.num_rows = 1, .context_len = 40, .decode = true},
                                         {.num_rows = 20, .context_len = 13}};
  int64_t num_heads = 8;
  int64_t num_kv_heads = 2;
  int64_t head_dim = 32;
  int64_t block_size = 16;
  DType q = DType::kF32;  // and out
  DType cache = DType::kF32;
  double q_scale = 1;
  bool aligned_rows = false;  // rows of q and out begin at multiples of 16 bytes, as the model has them
};

inline const std::vector<AttentionCase>& attention_cases() {
  const std::vector<SequenceCase> lengths = {{.num_rows = 1, .context_len = 0, .decode = true},
                                             {.num_rows = 1, .context_len = 62, .decode = true},
                                             {.num_rows = 1, .context_len = 63, .decode = true},
                                             {.num_rows = 1, .context_len = 64, .decode = true},
                                             {.num_rows = 1, .context_len = 5},
                                             {.num_rows = 0, .context_len = 5},
                                             {.num_rows = 31, .context_len = 0},
                                             {.num_rows = 33, .context_len = 40},
                                             {.num_rows = 130, .context_len = 1}};
  const std::vector<SequenceCase> splits = {{.num_rows = 1, .context_len = 1023, .decode = true},
                                            {.num_rows = 1, .context_len = 1024, .decode = true},
                                            {.num_rows = 1, .context_len = 3000, .decode = true},
                                            {.num_rows = 2, .context_len = 1100}};
  static const std::vector<AttentionCase> cases = {
      {.reason = "base: the demo checkpoint"},
      {.reason = "Nemotron-3-Nano", .num_heads = 32, .head_dim = 128},
      {.reason = "Nemotron-3-Nano in bf16",
       .num_heads = 32,
       .head_dim = 128,
       .q = DType::kBF16,
       .cache = DType::kBF16},
      {.reason = "sequences around the tiles' ends", .sequences = lengths},
      {.reason = "the same in bf16", .sequences = lengths, .q = DType::kBF16, .cache = DType::kBF16},
      {.reason = "the same in bf16 with aligned rows",
       .sequences = lengths,
       .q = DType::kBF16,
       .cache = DType::kBF16,
       .aligned_rows = true},
      {.reason = "the same with the heads of one of Nemotron's KV heads",
       .sequences = lengths,
       .num_heads = 16,
       .num_kv_heads = 1,
       .head_dim = 128,
       .q = DType::kBF16,
       .cache = DType::kBF16,
       .aligned_rows = true},
      {.reason = "bf16: heads of 64 in groups that tiles cut, blocks that tiles cut",
       .sequences = lengths,
       .num_heads = 10,
       .head_dim = 64,
       .block_size = 7,
       .q = DType::kBF16,
       .cache = DType::kBF16},
      {.reason = "bf16: one KV head, blocks larger than tiles",
       .sequences = lengths,
       .num_heads = 24,
       .num_kv_heads = 1,
       .block_size = 256,
       .q = DType::kBF16,
       .cache = DType::kBF16,
       .aligned_rows = true},
      {.reason = "bf16: scores beyond exp's range",
       .sequences = lengths,
       .q = DType::kBF16,
       .cache = DType::kBF16,
       .q_scale = 50},
      {.reason = "decode over split keys", .sequences = splits},
      {.reason = "decode over split keys in bf16",
       .sequences = splits,
       .num_heads = 32,
       .head_dim = 64,
       .q = DType::kBF16,
       .cache = DType::kBF16},
      {.reason = "decode over so many keys that splits grow",
       .sequences = {{.num_rows = 1, .context_len = 16384, .decode = true},
                     {.num_rows = 1, .context_len = 20000, .decode = true},
                     {.num_rows = 1, .context_len = 16383, .decode = true}},
       .num_heads = 4,
       .cache = DType::kBF16},
      {.reason = "blocks of one key", .sequences = lengths, .block_size = 1},
      {.reason = "blocks that tiles cut", .sequences = lengths, .block_size = 7},
      {.reason = "blocks larger than tiles", .sequences = lengths, .block_size = 256},
      {.reason = "every head its own keys", .sequences = lengths, .num_heads = 3, .num_kv_heads = 3},
      {.reason = "one KV head, more queries a row than a tile",
       .sequences = lengths,
       .num_heads = 80,
       .num_kv_heads = 1},
      {.reason = "groups that tiles cut", .sequences = lengths, .num_heads = 10, .num_kv_heads = 2},
      {.reason = "odd head", .sequences = lengths, .head_dim = 33},
      {.reason = "heads of one", .sequences = lengths, .head_dim = 1},
      {.reason = "bf16 cache under fp32 queries", .sequences = lengths, .cache = DType::kBF16},
      {.reason = "fp32 cache under bf16 queries", .sequences = lengths, .q = DType::kBF16},
      {.reason = "scores beyond exp's range", .sequences = lengths, .q_scale = 50},
  };
  return cases;
}

}  // namespace nemoforge::ops
