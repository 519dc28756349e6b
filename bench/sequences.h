// Sequences for the measurements: slots, blocks and random tokens.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "base/integers.h"
#include "base/result.h"
#include "base/rng.h"
#include "model/model.h"

namespace nemoforge::bench {

constexpr int64_t kBlockSize = 16;

// A few sequences that all grow to the same length, in caches of their own.
class Sequences {
 public:
  [[nodiscard]] static Result<Sequences> make(model::Model& model, int64_t count, int64_t max_len) {
    Sequences sequences;
    const int64_t blocks_each = ceil_div(max_len, kBlockSize);
    NF_TRY(sequences.caches_, model.allocate_caches({.num_slots = count,
                                                     .num_blocks = count * blocks_each,
                                                     .block_size = kBlockSize,
                                                     .kv_dtype = model.dtype()}));
    for (int64_t i = 0; i < count; ++i) {
      std::vector<int32_t> blocks(static_cast<size_t>(blocks_each));
      std::iota(blocks.begin(), blocks.end(), narrow<int32_t>(i * blocks_each));
      sequences.blocks_.push_back(std::move(blocks));
    }
    return sequences;
  }

  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(blocks_.size()); }
  [[nodiscard]] const model::ModelCaches& caches() const { return caches_; }
  [[nodiscard]] model::SequenceState state(int64_t i, int64_t context_len) const {
    return {context_len, narrow<int32_t>(i), blocks_[static_cast<size_t>(i)], nullptr};
  }

  // Gives sequence `to` the past of sequence `from`.
  void copy(model::Model& model, int64_t from, int64_t to) const {
    const auto copy_rows = [&](const TensorView& cache, int64_t from_row, int64_t to_row, int64_t count) {
      const TensorView source = cache.rows(from_row, count);
      model.backend().copy(source.raw(), cache.rows(to_row, count).raw(),
                           source.numel() * dtype_bytes(source.dtype()));
    };
    const auto num_blocks = static_cast<int64_t>(blocks_.front().size());
    for (int64_t layer_idx = 0; layer_idx < model.config().num_hidden_layers(); ++layer_idx) {
      const model::LayerKind kind = model.config().layers[static_cast<size_t>(layer_idx)];
      if (kind == model::LayerKind::kMamba) {
        copy_rows(caches_.mamba(layer_idx).conv_state, from, to, 1);
        copy_rows(caches_.mamba(layer_idx).ssm_state, from, to, 1);
      } else if (kind == model::LayerKind::kAttention) {
        copy_rows(caches_.kv(layer_idx).k, from * num_blocks, to * num_blocks, num_blocks);
        copy_rows(caches_.kv(layer_idx).v, from * num_blocks, to * num_blocks, num_blocks);
      }
    }
  }

  // Repeats the first `num_tokens` keys and values of sequence i (whole blocks) up to position `end`.
  void repeat_keys(model::Model& model, int64_t i, int64_t num_tokens, int64_t end) const {
    const int64_t count = div_exact(num_tokens, kBlockSize);
    const int64_t first = blocks_[static_cast<size_t>(i)].front();
    const auto repeat = [&](const TensorView& cache) {
      for (int64_t at = count; at < ceil_div(end, kBlockSize); at += count) {
        const TensorView source = cache.rows(first, std::min(count, ceil_div(end, kBlockSize) - at));
        model.backend().copy(source.raw(), cache.rows(first + at, source.size(0)).raw(),
                             source.numel() * dtype_bytes(source.dtype()));
      }
    };
    for (int64_t layer_idx = 0; layer_idx < model.config().num_hidden_layers(); ++layer_idx) {
      if (model.config().layers[static_cast<size_t>(layer_idx)] != model::LayerKind::kAttention) continue;
      repeat(caches_.kv(layer_idx).k);
      repeat(caches_.kv(layer_idx).v);
    }
  }

  // Passes the tokens of one sequence, from position `context_len`, in pieces of `chunk_size` rows.
  void prefill(model::Model& model, int64_t i, int64_t context_len, std::span<const int32_t> ids,
               int64_t chunk_size) const {
    model::Batch batch;
    while (!ids.empty()) {
      const auto chunk = ids.first(std::min(ids.size(), static_cast<size_t>(chunk_size)));
      ids = ids.subspan(chunk.size());
      batch.clear();
      batch.add_prefill(chunk, state(i, context_len),
                        ids.empty() ? model::WantedLogits::kLast : model::WantedLogits::kNone);
      model.forward(batch, caches_);
      context_len += static_cast<int64_t>(chunk.size());
    }
    model.backend().synchronize();
  }

 private:
  model::ModelCaches caches_;
  std::vector<std::vector<int32_t>> blocks_;
};

[[nodiscard]] inline std::vector<int32_t> random_token_ids(Rng& rng, int64_t count, int64_t vocab_size) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab_size))));
  }
  return ids;
}

}  // namespace nemoforge::bench
