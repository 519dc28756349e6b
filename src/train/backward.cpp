#include "train/backward.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/integers.h"
#include "train/layers/mixers_backward.h"
#include "train/loss.h"

namespace nemoforge::train {
namespace {

// Positions of a block of the key and value cache that the forward pass writes to and reads from.
constexpr int64_t kBlockSize = 16;

struct BatchTensors {
  ops::RaggedRows rows;
  ConstTensorView token_ids;  // [num_rows] i32
  ConstTensorView row_ids;    // [num_rows] i32: 0, 1, 2, ...
  ops::KvCacheView cache;     // of one layer at a time
};

using ActivationsOf = std::variant<model::Mamba2Activations, model::AttentionActivations,
                                   model::MoeActivations, model::MlpActivations>;

// A layer between its forward and its backward pass.
struct RunLayer {
  TensorView normed;  // the mixer's input
  ActivationsOf activations;
};

ops::KvCacheView take_cache(const PassArgs& args, int64_t num_blocks) {
  const Shape shape{num_blocks, kBlockSize, args.config.kv_size()};
  return {args.workspace.take(args.dtype, shape), args.workspace.take(args.dtype, shape)};
}

BatchTensors upload_batch(const PassArgs& args, const TrainBatch& batch) {
  BatchTensors result;
  const int64_t num_documents = batch.num_documents();
  result.rows.num_tokens = batch.num_rows();
  result.rows.num_sequences = num_documents;
  int64_t num_blocks = 0;
  int64_t max_blocks = 0;
  const auto blocks_of = [&](int64_t document) {
    const auto idx = static_cast<size_t>(document);
    return ceil_div<int64_t>(batch.cu_seqlens[idx + 1] - batch.cu_seqlens[idx], kBlockSize);
  };
  for (int64_t document = 0; document < num_documents; ++document) {
    const auto idx = static_cast<size_t>(document);
    result.rows.max_query_len =
        std::max<int64_t>(result.rows.max_query_len, batch.cu_seqlens[idx + 1] - batch.cu_seqlens[idx]);
    max_blocks = std::max(max_blocks, blocks_of(document));
  }
  result.rows.max_context_len = result.rows.max_query_len;
  std::vector<int32_t> block_tables;
  for (int64_t document = 0; document < num_documents; ++document) {
    for (int64_t i = 0; i < max_blocks; ++i) {
      block_tables.push_back(i < blocks_of(document) ? narrow<int32_t>(num_blocks++) : 0);
    }
  }
  std::vector<int32_t> row_ids(batch.token_ids.size());
  std::iota(row_ids.begin(), row_ids.end(), 0);
  const std::vector<int32_t> context_lens(static_cast<size_t>(num_documents), 0);
  const auto upload = [&](const std::vector<int32_t>& values) {
    const TensorView view = args.workspace.take(DType::kI32, {static_cast<int64_t>(values.size())});
    args.backend.upload(values.data(), view.raw(), view.numel() * dtype_bytes(DType::kI32));
    return view;
  };
  result.token_ids = upload(batch.token_ids);
  result.row_ids = upload(row_ids);
  result.rows.cu_seqlens = upload(batch.cu_seqlens);
  result.rows.context_lens = upload(context_lens);
  result.rows.block_tables = upload(block_tables).reshape({num_documents, max_blocks});
  if (args.config.has_layer(model::LayerKind::kAttention)) result.cache = take_cache(args, num_blocks);
  return result;
}

// One pass over one batch. residuals_[l] is the residual stream before layer l.
class Pass {
 public:
  Pass(const PassArgs& args, const TrainBatch& batch)
      : args_(args),
        batch_(batch),
        tensors_(upload_batch(args, batch)),
        adapter_rows_{model::AdapterRows{0, batch.num_rows(), args.adapter}} {
    const int64_t num_layers = args.config.num_hidden_layers();
    for (int64_t layer = 0; layer <= num_layers; ++layer) residuals_.push_back(take_rows(DType::kF32));
    kept_.resize(static_cast<size_t>(num_layers));
  }

  LossSum run(float scale, bool wants_gradients, std::span<float> token_losses, const LogitsTap& tap) {
    const auto num_layers = args_.config.num_hidden_layers();
    args_.backend.embedding(
        {.ids = tensors_.token_ids, .table = args_.weights.embeddings, .out = residuals_[0]});
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      if (wants_gradients && !args_.recomputation.runs_again(kind_of(layer))) {
        kept_[static_cast<size_t>(layer)] = forward_layer(layer);
      } else {
        const model::Workspace::Scope scope(args_.workspace);
        forward_layer(layer);
      }
    }

    const model::ForwardContext forward = forward_context(num_layers);
    const BackwardContext context{forward, args_.training, args_.gradients, args_.dropout};
    const TensorView normed = take_rows(args_.dtype);
    args_.backend.rms_norm({.x = residuals_.back(),
                            .weight = args_.weights.norm_f,
                            .epsilon = args_.config.layer_norm_epsilon,
                            .out = normed});
    const TensorView d_normed = wants_gradients ? zero_rows(context) : TensorView();
    const LossSum loss =
        head_loss(context, args_.weights.lm_head, normed, batch_.targets, scale, d_normed, token_losses, tap);
    if (!wants_gradients) return loss;
    const TensorView d_residual = zero_rows(context);  // of the stream before the layer at hand
    norm_backward(residuals_.back(), args_.weights.norm_f, d_normed, d_residual);
    const TensorView d_out = take_rows(args_.dtype);
    for (int64_t layer = num_layers - 1; layer >= 0; --layer) backward_layer(layer, d_out, d_residual);
    const TensorView d_table = args_.gradients.find(args_.weights.embeddings);
    if (d_table) {
      args_.training.embedding_backward({.ids = tensors_.token_ids, .d_out = d_residual, .d_table = d_table});
    }
    return loss;
  }

 private:
  [[nodiscard]] model::LayerKind kind_of(int64_t layer) const {
    return args_.config.layers[static_cast<size_t>(layer)];
  }
  [[nodiscard]] TensorView take_rows(DType dtype) const {
    return args_.workspace.take(dtype, {batch_.num_rows(), args_.config.hidden_size});
  }
  [[nodiscard]] TensorView zero_rows(const BackwardContext& context) const {
    return context.zeros_f32(batch_.num_rows(), args_.config.hidden_size);
  }

  [[nodiscard]] model::ForwardContext forward_context(int64_t layer_idx) const {
    const std::span<const model::AdapterRows> adapters(adapter_rows_);
    return {.backend = args_.backend,
            .config = args_.config,
            .rows = tensors_.rows,
            .workspace = args_.workspace,
            .dtype = args_.dtype,
            .adapters = args_.adapter == nullptr ? adapters.first(0) : adapters,
            .layer_idx = layer_idx,
            .adapter_input = args_.dropout};
  }

  // The normed input of a layer and what its mixer makes of it, in the workspace's present scope.
  [[nodiscard]] RunLayer run_layer(int64_t layer) const {
    const TensorView normed = norm(layer);
    return {normed, mix(forward_context(layer), normed)};
  }
  [[nodiscard]] TensorView norm(int64_t layer) const {
    const TensorView normed = take_rows(args_.dtype);
    args_.backend.rms_norm({.x = residuals_[static_cast<size_t>(layer)],
                            .weight = args_.weights.layers[static_cast<size_t>(layer)].norm,
                            .epsilon = args_.config.layer_norm_epsilon,
                            .out = normed});
    return normed;
  }
  [[nodiscard]] ActivationsOf mix(const model::ForwardContext& context, const ConstTensorView& x) const {
    struct Mixer {
      const model::ForwardContext& context;
      const ConstTensorView& x;
      const ops::KvCacheView& cache;

      ActivationsOf operator()(const model::MambaWeights& weights) const {
        return model::mamba2(context, weights, x, nullptr);
      }
      ActivationsOf operator()(const model::AttentionWeights& weights) const {
        return model::attention(context, weights, x, cache);
      }
      ActivationsOf operator()(const model::MoeWeights& weights) const {
        return model::moe(context, weights, x);
      }
      ActivationsOf operator()(const model::MlpWeights& weights) const {
        return model::dense_mlp(context, weights, x);
      }
    };
    const auto layer = static_cast<size_t>(context.layer_idx);
    return std::visit(Mixer{context, x, tensors_.cache}, args_.weights.layers[layer].mixer);
  }

  RunLayer forward_layer(int64_t layer) const {
    const RunLayer run = run_layer(layer);
    const TensorView delta = std::visit([](const auto& all) { return all.out; }, run.activations);
    // The stream after the layer: the mixer's output is copied there (as rows 0, 1, 2, ... of a table), and
    // the stream before it is added. The norm of the sum goes where the mixer's output was, which nothing
    // reads again.
    const TensorView after = residuals_[static_cast<size_t>(layer + 1)];
    args_.backend.embedding({.ids = tensors_.row_ids, .table = delta, .out = after});
    args_.backend.add_rms_norm({.residual = after,
                                .delta = residuals_[static_cast<size_t>(layer)],
                                .weight = args_.weights.norm_f,
                                .epsilon = args_.config.layer_norm_epsilon,
                                .out = delta});
    return run;
  }

  // d_residual: of the stream after the layer, and then before it. d_out is scratch.
  void backward_layer(int64_t layer, const TensorView& d_out, const TensorView& d_residual) const {
    const model::Workspace::Scope scope(args_.workspace);
    const model::ForwardContext forward = forward_context(layer);
    const BackwardContext context{forward, args_.training, args_.gradients, args_.dropout};
    const model::LayerWeights& weights = args_.weights.layers[static_cast<size_t>(layer)];
    const auto& kept = kept_[static_cast<size_t>(layer)];
    const RunLayer run = kept ? *kept : run_layer(layer);
    const TensorView normed = run.normed;
    const ActivationsOf& activations = run.activations;
    args_.backend.embedding({.ids = tensors_.row_ids, .table = d_residual, .out = d_out});
    const TensorView d_normed = zero_rows(context);
    if (const auto* mamba = std::get_if<model::MambaWeights>(&weights.mixer)) {
      mamba2_backward(context, *mamba, normed, std::get<model::Mamba2Activations>(activations), d_out,
                      d_normed);
    } else if (const auto* attention = std::get_if<model::AttentionWeights>(&weights.mixer)) {
      attention_backward(context, *attention, normed, std::get<model::AttentionActivations>(activations),
                         d_out, d_normed);
    } else if (const auto* moe = std::get_if<model::MoeWeights>(&weights.mixer)) {
      moe_backward(context, *moe, normed, std::get<model::MoeActivations>(activations), d_out, d_normed);
    } else {
      mlp_backward(context, std::get<model::MlpWeights>(weights.mixer), normed,
                   std::get<model::MlpActivations>(activations), model::LoraTarget::kUpProj,
                   model::LoraTarget::kDownProj, d_out, d_normed);
    }
    norm_backward(residuals_[static_cast<size_t>(layer)], weights.norm, d_normed, d_residual);
  }

  void norm_backward(const ConstTensorView& x, const ConstTensorView& weight, const ConstTensorView& d_out,
                     const TensorView& d_x) const {
    args_.training.rms_norm_backward({.x = x,
                                      .weight = weight,
                                      .epsilon = args_.config.layer_norm_epsilon,
                                      .d_out = d_out,
                                      .d_x = d_x,
                                      .d_weight = args_.gradients.find(weight)});
  }

  const PassArgs& args_;
  const TrainBatch& batch_;
  BatchTensors tensors_;
  std::array<model::AdapterRows, 1> adapter_rows_;
  std::vector<TensorView> residuals_;
  std::vector<std::optional<RunLayer>> kept_;  // by layer; absent: it is run again
};

tl::unexpected<Error> invalid(const std::string& message) {
  return error(ErrorCode::kInvalidArgument, "training batch: " + message);
}

}  // namespace

Status check_batch(const TrainBatch& batch, const model::ModelConfig& config) {
  if (batch.token_ids.empty() || batch.cu_seqlens.size() < 2) return invalid("holds no rows");
  if (batch.targets.size() != batch.token_ids.size()) {
    return invalid(std::to_string(batch.targets.size()) + " targets for " +
                   std::to_string(batch.token_ids.size()) + " tokens");
  }
  if (batch.cu_seqlens.front() != 0 || batch.cu_seqlens.back() != batch.num_rows()) {
    return invalid("cu_seqlens run from " + std::to_string(batch.cu_seqlens.front()) + " to " +
                   std::to_string(batch.cu_seqlens.back()) + ", not from 0 to the number of rows, " +
                   std::to_string(batch.num_rows()));
  }
  for (size_t document = 0; document + 1 < batch.cu_seqlens.size(); ++document) {
    if (batch.cu_seqlens[document] < batch.cu_seqlens[document + 1]) continue;
    return invalid("document " + std::to_string(document) + " has no rows");
  }
  for (size_t row = 0; row < batch.token_ids.size(); ++row) {
    const int32_t id = batch.token_ids[row];
    const int32_t target = batch.targets[row];
    if (id < 0 || id >= config.vocab_size || target < -1 || target >= config.vocab_size) {
      return invalid("row " + std::to_string(row) + " has token " + std::to_string(id) + " and target " +
                     std::to_string(target) + "; the model's vocabulary ends at " +
                     std::to_string(config.vocab_size - 1));
    }
  }
  return {};
}

LossSum run_pass(const PassArgs& args, const TrainBatch& batch, float scale, bool wants_gradients,
                 std::span<float> token_losses, const LogitsTap& tap) {
  args.workspace.reset();
  return Pass(args, batch).run(scale, wants_gradients, token_losses, tap);
}

}  // namespace nemoforge::train
