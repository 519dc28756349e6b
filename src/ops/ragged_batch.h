// Ragged batches for the tests and benchmarks of the ops that look along sequences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/integers.h"
#include "ops/backend.h"
#include "ops/element_access.h"
#include "ops/ragged_rows.h"
#include "tensor/buffer.h"

namespace nemoforge::ops {

struct SequenceCase {
  int64_t num_rows = 1;
  int64_t context_len = 0;
  bool decode = false;  // decode sequences come first
};

// The index tensors of a batch in a backend's memory. Slots and KV blocks are handed out from the last one
// down, so that an op which ignores them is found.
class RaggedBatch {
 public:
  RaggedBatch(Backend& backend, std::span<const SequenceCase> sequences, int64_t block_size = 16) {
    const auto num_sequences = static_cast<int64_t>(sequences.size());
    int64_t max_blocks = 1;
    for (const SequenceCase& s : sequences) {
      const int64_t len = s.context_len + s.num_rows;
      max_blocks = std::max(max_blocks, ceil_div(len, block_size));
      num_blocks_ += ceil_div(len, block_size);
      rows_.max_query_len = std::max(rows_.max_query_len, s.num_rows);
      rows_.max_context_len = std::max(rows_.max_context_len, len);
      rows_.num_decode += s.decode ? 1 : 0;
    }
    ++num_blocks_;  // one that nobody uses
    num_slots_ = num_sequences + 1;
    Tensor cu_seqlens = make_host_tensor(DType::kI32, Shape{num_sequences + 1});
    Tensor context_lens = make_host_tensor(DType::kI32, Shape{num_sequences});
    Tensor state_slots = make_host_tensor(DType::kI32, Shape{num_sequences});
    Tensor block_tables = make_host_tensor(DType::kI32, Shape{num_sequences, max_blocks});
    std::fill_n(block_tables.view().data<int32_t>(), num_sequences * max_blocks, -1);
    int64_t next_block = num_blocks_ - 1;
    for (int64_t i = 0; i < num_sequences; ++i) {
      const SequenceCase& s = sequences[static_cast<size_t>(i)];
      store_element(cu_seqlens.view(), i, 0, static_cast<double>(rows_.num_tokens));
      store_element(context_lens.view(), i, 0, static_cast<double>(s.context_len));
      store_element(state_slots.view(), i, 0, static_cast<double>(num_slots_ - 1 - i));
      for (int64_t b = 0; b < ceil_div(s.context_len + s.num_rows, block_size); ++b) {
        store_element(block_tables.view(), i, b, static_cast<double>(next_block--));
      }
      rows_.num_tokens += s.num_rows;
    }
    store_element(cu_seqlens.view(), num_sequences, 0, static_cast<double>(rows_.num_tokens));
    rows_.num_sequences = num_sequences;
    rows_.cu_seqlens = keep(backend, cu_seqlens);
    rows_.context_lens = keep(backend, context_lens);
    rows_.state_slots = keep(backend, state_slots);
    rows_.block_tables = keep(backend, block_tables);
  }

  [[nodiscard]] const RaggedRows& rows() const { return rows_; }
  [[nodiscard]] int64_t num_slots() const { return num_slots_; }
  [[nodiscard]] int64_t num_blocks() const { return num_blocks_; }
  [[nodiscard]] int64_t slot(int64_t sequence_idx) const { return num_slots_ - 1 - sequence_idx; }

 private:
  ConstTensorView keep(Backend& backend, const Tensor& values) {
    const int64_t num_bytes = values.view().numel() * dtype_bytes(values.view().dtype());
    buffers_.push_back(backend.allocate(num_bytes).value());
    backend.upload(values.view().raw(), buffers_.back().data(), num_bytes);
    return ConstTensorView(buffers_.back().data(), values.view().dtype(), values.view().shape());
  }

  RaggedRows rows_;
  int64_t num_slots_ = 0;
  int64_t num_blocks_ = 0;
  std::vector<Buffer> buffers_;
};

// Rows [begin, begin + count) of a contiguous host tensor as a tensor of their own.
[[nodiscard]] inline Tensor copy_rows(const Tensor& tensor, int64_t begin, int64_t count) {
  const ConstTensorView from = tensor.view().rows(begin, count);
  Tensor copy = make_host_tensor(from.dtype(), from.shape());
  std::memcpy(copy.view().raw(), from.raw(), static_cast<size_t>(from.numel() * dtype_bytes(from.dtype())));
  return copy;
}

}  // namespace nemoforge::ops
