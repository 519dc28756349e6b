// The rows of one training pass.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace nemoforge::train {

// Documents packed one after another. Attention, convolution and state space see a document alone: its loss
// and gradients have the same bits whatever is packed beside it.
struct TrainBatch {
  std::vector<int32_t> token_ids;   // [num_rows]
  std::vector<int32_t> targets;     // [num_rows]: the token that the row predicts; -1: no loss
  std::vector<int32_t> cu_seqlens;  // [num_documents + 1]: document d has rows cu_seqlens[d] ..
                                    // cu_seqlens[d + 1] - 1; ascending from 0 to num_rows
  int64_t pass_idx = 0;             // of the run: with the seed, it decides what dropout drops

  [[nodiscard]] int64_t num_rows() const { return static_cast<int64_t>(token_ids.size()); }
  [[nodiscard]] int64_t num_documents() const { return static_cast<int64_t>(cu_seqlens.size()) - 1; }
};

// Losses of the targets of a batch, added up.
struct LossSum {
  double loss = 0;          // nats
  int64_t num_targets = 0;  // rows with a target
};

// Sees the logits of rows with a target: their indices in the batch, ascending, and logits [rows.size(),
// vocab_size] in host memory, valid during the call. Called for piece after piece of the rows.
using LogitsTap = std::function<void(std::span<const int32_t> rows, std::span<const float> logits)>;

}  // namespace nemoforge::train
