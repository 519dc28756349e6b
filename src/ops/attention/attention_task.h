// How attention's work is cut for the CPU: a pure function of each sequence alone, so that results do not
// depend on the batch or on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/attention/attention.h"

namespace nemoforge::ops {

// Tiles of keys begin at multiples of this. Keys and values of a tile as fp32 (64 KiB at head_dim 128) and
// the output stay in L2.
constexpr int64_t kKeyTile = 64;
// Queries that share the reading of a tile: four vectors of AVX-512.
constexpr int64_t kQueryTile = 64;
// Keys of one task of a decode row: cuts a long context among threads. A multiple of kKeyTile.
constexpr int64_t kKeysPerSplit = 1024;

// Some queries of one sequence that share a KV head, over keys [key_begin, key_end). Query q is query head
// q % (num_heads / num_kv_heads) of the KV head, of the sequence's row q / (num_heads / num_kv_heads).
struct AttentionTask {
  int64_t sequence_idx = 0;
  int64_t kv_head = 0;
  int64_t first_query = 0;
  int64_t num_queries = 0;  // at most kQueryTile
  int64_t key_begin = 0;
  int64_t key_end = 0;
  int64_t split_idx = 0;   // of num_splits tasks for these queries, which follow each other
  int64_t num_splits = 1;  // 1: the task writes the output itself
};

[[nodiscard]] std::vector<AttentionTask> attention_tasks(const AttentionArgs& args);

}  // namespace nemoforge::ops
