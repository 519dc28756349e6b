#include "engine/model_runner.h"

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

std::vector<std::span<const float>> ModelRunner::forward(std::span<const ScheduledSequence> work) {
  if (work.empty()) return {};
  batch_.clear();
  std::vector<size_t> num_rows;  // of logits, of each sequence
  for (const ScheduledSequence& item : work) {
    const Sequence& sequence = *item.sequence;
    const auto tokens =
        std::span(sequence.tokens)
            .subspan(static_cast<size_t>(sequence.num_computed), static_cast<size_t>(item.num_tokens));
    const model::SequenceState state{sequence.num_computed, sequence.state_slot, sequence.blocks,
                                     sequence.request->request.adapter.get()};
    if (item.is_decode) {
      batch_.add_decode(tokens.front(), state);
      num_rows.push_back(1);
    } else if (item.scores_prompt()) {
      batch_.add_prefill(tokens, state, model::WantedLogits::kAll);
      num_rows.push_back(tokens.size());
    } else {
      const bool wanted = item.needs_logits();
      batch_.add_prefill(tokens, state, wanted ? model::WantedLogits::kLast : model::WantedLogits::kNone);
      num_rows.push_back(wanted ? 1 : 0);
    }
  }

  const std::span<const float> logits = to_host(model_.forward(batch_, caches_));
  const auto vocab_size = static_cast<size_t>(model_.config().vocab_size);
  std::vector<std::span<const float>> result;
  size_t begin = 0;
  for (const size_t rows : num_rows) {
    result.push_back(logits.subspan(begin, rows * vocab_size));
    begin += rows * vocab_size;
  }
  NF_CHECK(begin == logits.size()) << begin << " of " << logits.size();
  return result;
}

std::span<const float> ModelRunner::to_host(const ConstTensorView& logits) {
  const auto count = static_cast<size_t>(logits.numel());
  if (count == 0) return {};
  NF_CHECK(logits.is_contiguous());
  if (model_.backend().shares_host_memory()) {
    model_.backend().synchronize();
    return {logits.data<float>(), count};
  }
  host_logits_.resize(count);
  model_.backend().download(logits.raw(), host_logits_.data(), logits.numel() * int64_t{sizeof(float)});
  return host_logits_;
}

}  // namespace nemoforge::engine
