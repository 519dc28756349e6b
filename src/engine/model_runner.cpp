#include "engine/model_runner.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace nemoforge::engine {
namespace {

model::CacheSizes cache_sizes(const model::Model& model, int64_t num_slots, int64_t num_blocks,
                              int64_t block_size) {
  return {num_slots, num_blocks, block_size, model.dtype()};
}

}  // namespace

CacheCost ModelRunner::cache_cost(const model::Model& model, int64_t block_size) {
  return {model::ModelCaches::block_bytes(model.config(), cache_sizes(model, 1, 1, block_size)),
          model::ModelCaches::slot_bytes(model.config(), model.dtype())};
}

Result<std::unique_ptr<ModelRunner>> ModelRunner::create(model::Model& model, const SchedulerConfig& limits) {
  NF_TRY(model::ModelCaches caches,
         model.allocate_caches(cache_sizes(model, limits.max_num_seqs + limits.num_snapshot_slots,
                                           limits.num_blocks, limits.block_size)));
  return std::unique_ptr<ModelRunner>(new ModelRunner(model, std::move(caches)));
}

void ModelRunner::copy(std::span<const CacheCopy> copies) {
  const auto& layers = model_.config().layers;
  for (const CacheCopy& copy : copies) {
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto layer_idx = static_cast<int64_t>(i);
      if (copy.what == CacheCopy::What::kState && layers[i] == model::LayerKind::kMamba) {
        copy_row(caches_.mamba(layer_idx).conv_state, copy.from, copy.to);
        copy_row(caches_.mamba(layer_idx).ssm_state, copy.from, copy.to);
      }
      if (copy.what == CacheCopy::What::kBlock && layers[i] == model::LayerKind::kAttention) {
        copy_row(caches_.kv(layer_idx).k, copy.from, copy.to);
        copy_row(caches_.kv(layer_idx).v, copy.from, copy.to);
      }
    }
  }
}

void ModelRunner::copy_row(const TensorView& cache, int32_t from, int32_t to) {
  const TensorView source = cache.rows(from, 1);
  const TensorView target = cache.rows(to, 1);
  model_.backend().copy(source.raw(), target.raw(), source.numel() * dtype_bytes(source.dtype()));
}

std::vector<LogitRows> ModelRunner::forward(std::span<const ScheduledSequence> work) {
  logits_ = {};
  if (work.empty()) return {};
  batch_.clear();
  std::vector<LogitRows> rows;
  int64_t num_rows = 0;
  const auto add_rows = [&](int64_t count) {
    rows.push_back({num_rows, count});
    num_rows += count;
  };
  for (const ScheduledSequence& item : work) {
    const Sequence& sequence = *item.sequence;
    const auto tokens =
        std::span(sequence.tokens)
            .subspan(static_cast<size_t>(sequence.num_computed), static_cast<size_t>(item.num_tokens));
    const model::SequenceState state{sequence.num_computed, sequence.state_slot, sequence.blocks,
                                     sequence.request->request.adapter.get()};
    if (item.is_decode) {
      batch_.add_decode(tokens.front(), state);
      add_rows(1);
    } else if (item.scores_prompt()) {
      batch_.add_prefill(tokens, state, model::WantedLogits::kAll);
      add_rows(item.num_tokens);
    } else {
      const bool wanted = item.needs_logits();
      batch_.add_prefill(tokens, state, wanted ? model::WantedLogits::kLast : model::WantedLogits::kNone);
      add_rows(wanted ? 1 : 0);
    }
  }

  logits_ = model_.forward(batch_, caches_);
  NF_CHECK(logits_.size(0) == num_rows && logits_.is_contiguous()) << logits_.size(0) << ", not " << num_rows;
  is_on_host_.assign(static_cast<size_t>(num_rows), false);
  return rows;
}

std::span<const float> ModelRunner::host_logits(LogitRows rows) {
  if (rows.count == 0) return {};
  const int64_t vocab_size = logits_.size(1);
  const auto first = static_cast<size_t>(rows.first * vocab_size);
  const auto count = static_cast<size_t>(rows.count * vocab_size);
  ops::Backend& backend = model_.backend();
  if (backend.shares_host_memory()) {
    backend.synchronize();
    return {logits_.data<float>() + first, count};
  }
  // Grown at once, so that spans of other rows stay where they are.
  const auto numel = static_cast<size_t>(logits_.numel());
  if (host_logits_.size() < numel) {
    NF_CHECK(std::none_of(is_on_host_.begin(), is_on_host_.end(), [](bool is_there) { return is_there; }));
    host_logits_.resize(numel);
  }
  const auto begin = is_on_host_.begin() + rows.first;
  if (!std::all_of(begin, begin + rows.count, [](bool is_there) { return is_there; })) {
    backend.download(logits_.rows(rows.first, rows.count).raw(), host_logits_.data() + first,
                     rows.count * vocab_size * int64_t{sizeof(float)});
    std::fill(begin, begin + rows.count, true);
  }
  return std::span(host_logits_).subspan(first, count);
}

void ModelRunner::choose(std::span<const ops::TokenChoiceRow> rows, std::span<ops::ChosenToken> out) {
  if (rows.empty()) return;
  model_.backend().choose_tokens({.logits = logits_, .rows = rows, .out = out});
}

}  // namespace nemoforge::engine
