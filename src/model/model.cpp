#include "model/model.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"
#include "base/integers.h"
#include "model/layers/attention.h"
#include "model/layers/mamba2.h"
#include "model/layers/mlp.h"
#include "model/layers/moe.h"

namespace nemoforge::model {
namespace {

// The index tensors of a batch in the backend's memory.
struct BatchTensors {
  ops::RaggedRows rows;
  ConstTensorView token_ids;   // [num_rows] i32
  ConstTensorView logit_rows;  // [num_logit_rows] i32
};

void check_batch(const Batch& batch, const ModelConfig& config, const CacheSizes& caches) {
  NF_CHECK(batch.num_sequences() > 0);
  for (const int32_t token_id : batch.token_ids()) {
    NF_CHECK(token_id >= 0 && token_id < config.vocab_size) << token_id << " of " << config.vocab_size;
  }
  const bool has_attention = config.has_layer(LayerKind::kAttention);
  for (const Batch::Sequence& sequence : batch.sequences()) {
    const int32_t slot = sequence.state.state_slot;
    NF_CHECK(slot >= 0 && slot < caches.num_slots) << slot << " of " << caches.num_slots;
    const int64_t num_tokens = sequence.state.context_len + sequence.num_rows;
    NF_CHECK(!has_attention ||
             static_cast<int64_t>(sequence.state.kv_blocks.size()) * caches.block_size >= num_tokens)
        << sequence.state.kv_blocks.size() << " blocks for " << num_tokens << " tokens";
  }
}

// KV blocks that hold the sequence up to its last row of this batch.
int64_t blocks_in_use(const Batch::Sequence& sequence, int64_t block_size) {
  return ceil_div(sequence.state.context_len + sequence.num_rows, block_size);
}

// Whether a pass is a decode step that looks like others: it can be replayed.
bool is_replayable(const Batch& batch, const HiddenStatesTap& tap) {
  return batch.num_decode() == batch.num_sequences() && !batch.has_adapters() && !tap;
}

// A decode step says that its sequences may be as long as the next power of two of blocks, so that steps with
// the same sizes stay alike as the sequences grow.
int64_t rounded_blocks(int64_t num_blocks) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(num_blocks, 8))));
}

// Gathers all index tensors in `words` and uploads them at once: one small copy a pass.
BatchTensors upload_batch(const Batch& batch, const ModelConfig& config, const CacheSizes& caches,
                          bool replayable, ops::Backend& backend, Workspace& workspace,
                          std::vector<int32_t>& words) {
  BatchTensors result;
  ops::RaggedRows& rows = result.rows;
  rows.num_tokens = batch.num_rows();
  rows.num_sequences = batch.num_sequences();
  rows.num_decode = batch.num_decode();
  int64_t max_blocks = 0;
  for (const Batch::Sequence& sequence : batch.sequences()) {
    rows.max_query_len = std::max(rows.max_query_len, sequence.num_rows);
    rows.max_context_len = std::max(rows.max_context_len, sequence.state.context_len + sequence.num_rows);
    max_blocks = std::max(max_blocks, blocks_in_use(sequence, caches.block_size));
  }
  if (replayable) {
    max_blocks = rounded_blocks(max_blocks);
    rows.max_context_len = max_blocks * caches.block_size;
  }

  words.clear();
  words.insert(words.end(), batch.token_ids().begin(), batch.token_ids().end());
  words.insert(words.end(), batch.logit_rows().begin(), batch.logit_rows().end());
  for (const Batch::Sequence& sequence : batch.sequences()) {
    words.push_back(narrow<int32_t>(sequence.first_row));
  }
  words.push_back(narrow<int32_t>(batch.num_rows()));
  for (const Batch::Sequence& sequence : batch.sequences()) {
    words.push_back(narrow<int32_t>(sequence.state.context_len));
  }
  for (const Batch::Sequence& sequence : batch.sequences()) words.push_back(sequence.state.state_slot);
  const bool has_attention = config.has_layer(LayerKind::kAttention);
  if (has_attention) {
    for (const Batch::Sequence& sequence : batch.sequences()) {
      const auto blocks =
          sequence.state.kv_blocks.first(static_cast<size_t>(blocks_in_use(sequence, caches.block_size)));
      words.insert(words.end(), blocks.begin(), blocks.end());
      words.insert(words.end(), static_cast<size_t>(max_blocks) - blocks.size(), 0);
    }
  }

  const auto num_words = static_cast<int64_t>(words.size());
  const TensorView all = workspace.take(DType::kI32, {num_words});
  backend.upload(words.data(), all.raw(), num_words * dtype_bytes(DType::kI32));
  int64_t taken = 0;
  const auto next = [&](int64_t count) {
    taken += count;
    return ConstTensorView(all.rows(taken - count, count));
  };
  result.token_ids = next(batch.num_rows());
  result.logit_rows = next(static_cast<int64_t>(batch.logit_rows().size()));
  rows.cu_seqlens = next(batch.num_sequences() + 1);
  rows.context_lens = next(batch.num_sequences());
  rows.state_slots = next(batch.num_sequences());
  if (has_attention) {
    rows.block_tables = next(batch.num_sequences() * max_blocks).reshape({batch.num_sequences(), max_blocks});
  }
  return result;
}

// Neighbouring sequences of one adapter make one range.
void collect_adapter_rows(const Batch& batch, std::vector<AdapterRows>& ranges) {
  ranges.clear();
  if (!batch.has_adapters()) return;
  for (const Batch::Sequence& sequence : batch.sequences()) {
    const LoraAdapter* adapter = sequence.state.adapter;
    if (adapter == nullptr) continue;
    const int64_t end = sequence.first_row + sequence.num_rows;
    const bool continues =
        !ranges.empty() && ranges.back().adapter == adapter && ranges.back().end == sequence.first_row;
    if (continues) {
      ranges.back().end = end;
    } else {
      ranges.push_back({sequence.first_row, end, adapter});
    }
  }
}

// The mixer of a layer on normed rows, with the caches of that layer.
TensorView mix(const ForwardContext& context, const LayerWeights& layer, const ConstTensorView& x,
               const ModelCaches& caches) {
  struct Mixer {
    const ForwardContext& context;
    const ConstTensorView& x;
    const ModelCaches& caches;

    TensorView operator()(const MambaWeights& weights) const {
      return mamba2(context, weights, x, &caches.mamba(context.layer_idx)).out;
    }
    TensorView operator()(const AttentionWeights& weights) const {
      return attention(context, weights, x, caches.kv(context.layer_idx)).out;
    }
    TensorView operator()(const MoeWeights& weights) const { return moe(context, weights, x).out; }
    TensorView operator()(const MlpWeights& weights) const { return dense_mlp(context, weights, x).out; }
  };
  return std::visit(Mixer{context, x, caches}, layer.mixer);
}

// The residual stream through all layers and the final norm: [num_rows, hidden_size]. The addition of a
// layer's mixer to the stream is one op with the norm that follows it. The stream and what mixers add to it
// are fp32 with bf16 activations too (transformers rounds both): it costs two bytes a channel, and every
// rounding of the stream moves some tokens to other experts.
TensorView run_layers(ForwardContext context, const ModelWeights& weights, const ConstTensorView& token_ids,
                      const ModelCaches& caches, const HiddenStatesTap& tap) {
  const ModelConfig& config = context.config;
  const float epsilon = config.layer_norm_epsilon;
  const int64_t num_layers = config.num_hidden_layers();
  const TensorView residual = context.take_f32(config.hidden_size);
  const TensorView normed = context.take(config.hidden_size);

  context.backend.embedding({.ids = token_ids, .table = weights.embeddings, .out = residual});
  context.backend.rms_norm(
      {.x = residual, .weight = weights.layers[0].norm, .epsilon = epsilon, .out = normed});
  if (tap) tap(0, residual);
  for (; context.layer_idx < num_layers; ++context.layer_idx) {
    const Workspace::Scope scope(context.workspace);
    const auto next_idx = static_cast<size_t>(context.layer_idx + 1);
    const bool is_last = context.layer_idx + 1 == num_layers;
    const TensorView delta = mix(context, weights.layers[next_idx - 1], normed, caches);
    context.backend.add_rms_norm({.residual = residual,
                                  .delta = delta,
                                  .weight = is_last ? weights.norm_f : weights.layers[next_idx].norm,
                                  .epsilon = epsilon,
                                  .out = normed});
    if (tap) tap(context.layer_idx + 1, is_last ? normed : residual);
  }
  return normed;
}

// The head on the rows whose logits are wanted.
TensorView run_head(const ForwardContext& context, const ModelWeights& weights,
                    const TensorView& hidden_states, const ConstTensorView& logit_rows) {
  const int64_t num_rows = logit_rows.size(0);
  const TensorView logits = context.workspace.take(DType::kF32, {num_rows, context.config.vocab_size});
  if (num_rows == 0) return logits;
  TensorView wanted = hidden_states;
  if (num_rows < context.num_rows()) {
    wanted = context.workspace.take(context.dtype, {num_rows, context.config.hidden_size});
    context.backend.embedding({.ids = logit_rows, .table = hidden_states, .out = wanted});
  }
  // All decode rows want their logits and come first, so the head's decode rows are the batch's.
  context.backend.linear(
      {.x = wanted, .weight = &weights.lm_head, .num_decode_rows = context.rows.num_decode, .out = logits});
  return logits;
}

// The head on every row of a decode step.
void decode_head(const ForwardContext& context, const ModelWeights& weights, const TensorView& hidden_states,
                 const TensorView& logits) {
  context.backend.linear({.x = hidden_states,
                          .weight = &weights.lm_head,
                          .num_decode_rows = context.rows.num_decode,
                          .out = logits});
}

}  // namespace

Model::Model(ModelConfig config, Weights weights, DType dtype, ops::Backend& backend)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      dtype_(dtype),
      backend_(&backend),
      workspace_(backend) {
  NF_CHECK(dtype == DType::kF32 || dtype == DType::kBF16) << dtype_name(dtype);
  NF_CHECK(weights_->layers.size() == config_.layers.size());
}

Result<Model> Model::load(const std::string& folder, DType dtype, ops::Backend& backend) {
  NF_TRY(ModelConfig config, load_model_config(folder));
  NF_TRY(Weights weights, Weights::load(folder, config, dtype, backend));
  return Model(std::move(config), std::move(weights), dtype, backend);
}

Result<ModelCaches> Model::allocate_caches(const CacheSizes& sizes) {
  return ModelCaches::allocate(config_, sizes, dtype_, *backend_);
}

TensorView Model::forward(const Batch& batch, const ModelCaches& caches, const HiddenStatesTap& tap) {
  check_batch(batch, config_, caches.sizes());
  workspace_.reset();
  const bool replayable = is_replayable(batch, tap);
  const BatchTensors tensors =
      upload_batch(batch, config_, caches.sizes(), replayable, *backend_, workspace_, batch_words_);
  collect_adapter_rows(batch, adapter_rows_);
  const ForwardContext context{.backend = *backend_,
                               .config = config_,
                               .rows = tensors.rows,
                               .workspace = workspace_,
                               .dtype = dtype_,
                               .adapters = adapter_rows_};
  if (!replayable) {
    const TensorView hidden_states = run_layers(context, *weights_, tensors.token_ids, caches, tap);
    return run_head(context, *weights_, hidden_states, tensors.logit_rows);
  }
  const TensorView logits = workspace_.take(DType::kF32, {batch.num_rows(), config_.vocab_size});
  const ops::ReplayKey key = {id_,
                              caches.id(),
                              batch.num_rows(),
                              tensors.rows.max_context_len,
                              std::bit_cast<int64_t>(tensors.token_ids.raw()),
                              std::bit_cast<int64_t>(logits.raw()),
                              workspace_.num_bytes()};
  backend_->replay(key, [&] {
    const TensorView hidden_states = run_layers(context, *weights_, tensors.token_ids, caches, tap);
    decode_head(context, *weights_, hidden_states, logits);
  });
  return logits;
}

}  // namespace nemoforge::model
