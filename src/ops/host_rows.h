// The sequences of a ragged batch whose index tensors are in host memory: for the reference and CPU backends.
#pragma once

#include <cstdint>

#include "ops/attention/attention.h"
#include "ops/ragged_rows.h"

namespace nemoforge::ops {

// One sequence's share of a batch.
struct SequenceRows {
  int64_t begin = 0;  // its rows are begin .. end - 1
  int64_t end = 0;
  int64_t context_len = 0;
  [[nodiscard]] int64_t num_rows() const { return end - begin; }
};

[[nodiscard]] inline SequenceRows sequence_rows(const RaggedRows& rows, int64_t sequence_idx) {
  const int32_t* cu_seqlens = rows.cu_seqlens.data<int32_t>();
  return {cu_seqlens[sequence_idx], cu_seqlens[sequence_idx + 1],
          rows.context_lens.data<int32_t>()[sequence_idx]};
}

[[nodiscard]] inline int64_t state_slot(const RaggedRows& rows, int64_t sequence_idx) {
  return rows.state_slots.data<int32_t>()[sequence_idx];
}

// Block of the KV cache that holds a position of a sequence.
[[nodiscard]] inline int64_t kv_block(const RaggedRows& rows, int64_t sequence_idx, int64_t block_idx) {
  return rows.block_tables.data<int32_t>()[sequence_idx * rows.block_tables.row_stride() + block_idx];
}

// Throws InternalError unless the contents of the index tensors are what RaggedRows promises: rows ascending
// and complete, decode sequences of one row, and, where `state` is present, slots in its range; where it is
// absent, every sequence begins at position 0.
void check_host_rows(const RaggedRows& rows, const ConstTensorView& state);
// Likewise, and the KV blocks up to each sequence's last position are in the range of the cache.
void check_host_rows(const RaggedRows& rows, const KvCacheView& cache);

}  // namespace nemoforge::ops
