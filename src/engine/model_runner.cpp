#include "engine/model_runner.h"

#include <cstring>
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
  const int64_t num_bytes = source.numel() * dtype_bytes(source.dtype());
  ops::Backend& backend = model_.backend();
  if (backend.shares_host_memory()) {
    backend.synchronize();
    std::memcpy(target.raw(), source.raw(), static_cast<size_t>(num_bytes));
    return;
  }
  host_rows_.resize(static_cast<size_t>(num_bytes));
  backend.download(source.raw(), host_rows_.data(), num_bytes);
  backend.upload(host_rows_.data(), target.raw(), num_bytes);
}

std::vector<std::span<const float>> ModelRunner::forward(std::span<const ScheduledSequence> work) {
  if (work.empty()) return {};
  batch_.clear();
  std::vector<bool> is_wanted;  // of each row of logits
  for (const ScheduledSequence& item : work) {
    const Sequence& sequence = *item.sequence;
    const auto tokens =
        std::span(sequence.tokens)
            .subspan(static_cast<size_t>(sequence.num_computed), static_cast<size_t>(item.num_tokens));
    const model::SequenceState state{sequence.num_computed, sequence.state_slot, sequence.blocks,
                                     sequence.request->request.adapter.get()};
    if (item.is_decode) {
      batch_.add_decode(tokens.front(), state);
      is_wanted.push_back(item.needs_logits());
      continue;
    }
    const bool wanted = item.needs_logits();
    batch_.add_prefill(tokens, state, wanted ? model::WantedLogits::kLast : model::WantedLogits::kNone);
    if (wanted) is_wanted.push_back(true);
  }

  const ConstTensorView logits = model_.forward(batch_, caches_);
  NF_CHECK(logits.size(0) == static_cast<int64_t>(is_wanted.size()) && logits.is_contiguous());
  const auto vocab_size = static_cast<size_t>(logits.size(1));
  const float* rows = logits.data<float>();
  if (model_.backend().shares_host_memory()) {
    model_.backend().synchronize();
  } else {
    host_logits_.resize(static_cast<size_t>(logits.numel()));
    model_.backend().download(rows, host_logits_.data(), logits.numel() * int64_t{sizeof(float)});
    rows = host_logits_.data();
  }
  std::vector<std::span<const float>> wanted;
  for (size_t row = 0; row < is_wanted.size(); ++row) {
    if (is_wanted[row]) wanted.emplace_back(rows + row * vocab_size, vocab_size);
  }
  return wanted;
}

}  // namespace nemoforge::engine
