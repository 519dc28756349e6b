#include "ops/host_rows.h"

#include "base/integers.h"

namespace nemoforge::ops {
namespace {

void check_sequences(const RaggedRows& rows) {
  NF_CHECK(sequence_rows(rows, 0).begin == 0) << sequence_rows(rows, 0).begin;
  for (int64_t sequence_idx = 0; sequence_idx < rows.num_sequences; ++sequence_idx) {
    const SequenceRows sequence = sequence_rows(rows, sequence_idx);
    NF_CHECK(sequence.begin <= sequence.end && sequence.context_len >= 0)
        << "sequence " << sequence_idx << ": rows " << sequence.begin << ".." << sequence.end << " after "
        << sequence.context_len;
    NF_CHECK(sequence_idx >= rows.num_decode || sequence.num_rows() == 1)
        << "decode sequence " << sequence_idx << " has " << sequence.num_rows() << " rows";
    NF_CHECK(sequence.num_rows() <= rows.max_query_len &&
             sequence.context_len + sequence.num_rows() <= rows.max_context_len)
        << "sequence " << sequence_idx << ": " << sequence.num_rows() << " rows after "
        << sequence.context_len;
  }
  NF_CHECK(sequence_rows(rows, rows.num_sequences - 1).end == rows.num_tokens)
      << sequence_rows(rows, rows.num_sequences - 1).end << " of " << rows.num_tokens;
}

}  // namespace

void check_host_rows(const RaggedRows& rows, const ConstTensorView& state) {
  check_sequences(rows);
  for (int64_t sequence_idx = 0; sequence_idx < rows.num_sequences; ++sequence_idx) {
    if (!state) {
      const int64_t context_len = sequence_rows(rows, sequence_idx).context_len;
      NF_CHECK(context_len == 0) << "sequence " << sequence_idx << " has context, but no state";
      continue;
    }
    const int64_t slot = state_slot(rows, sequence_idx);
    NF_CHECK(slot >= 0 && slot < state.size(0))
        << "sequence " << sequence_idx << ": slot " << slot << " of " << state.size(0);
  }
}

void check_host_rows(const RaggedRows& rows, const KvCacheView& cache) {
  check_sequences(rows);
  for (int64_t sequence_idx = 0; sequence_idx < rows.num_sequences; ++sequence_idx) {
    const SequenceRows sequence = sequence_rows(rows, sequence_idx);
    const int64_t num_used = ceil_div(sequence.context_len + sequence.num_rows(), cache.block_size());
    NF_CHECK(num_used <= rows.block_tables.size(1)) << "sequence " << sequence_idx << ": " << num_used;
    for (int64_t block_idx = 0; block_idx < num_used; ++block_idx) {
      const int64_t block = kv_block(rows, sequence_idx, block_idx);
      NF_CHECK(block >= 0 && block < cache.k.size(0))
          << "sequence " << sequence_idx << ", block " << block_idx << ": " << block << " of "
          << cache.k.size(0);
    }
  }
}

}  // namespace nemoforge::ops
