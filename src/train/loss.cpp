#include "train/loss.h"

#include <algorithm>
#include <vector>

namespace nemoforge::train {
namespace {

TensorView upload_indices(const BackwardContext& context, std::span<const int32_t> values) {
  const auto count = static_cast<int64_t>(values.size());
  const TensorView view = context.forward.workspace.take(DType::kI32, {count});
  context.forward.backend.upload(values.data(), view.raw(), count * dtype_bytes(DType::kI32));
  return view;
}

void show_logits(const BackwardContext& context, std::span<const int32_t> rows, const TensorView& logits,
                 const LogitsTap& tap) {
  ops::Backend& backend = context.forward.backend;
  std::vector<float> values(static_cast<size_t>(logits.numel()));
  backend.synchronize();
  backend.download(logits.raw(), values.data(), logits.numel() * dtype_bytes(DType::kF32));
  tap(rows, values);
}

// The losses of some rows, written to `losses` on the device.
void piece_loss(const BackwardContext& context, const ops::LinearWeight& lm_head,
                const ConstTensorView& hidden_states, std::span<const int32_t> rows,
                std::span<const int32_t> targets, float scale, const TensorView& losses,
                const TensorView& d_hidden_states, const LogitsTap& tap) {
  ops::Backend& backend = context.forward.backend;
  model::Workspace& workspace = context.forward.workspace;
  const model::Workspace::Scope scope(workspace);
  const auto count = static_cast<int64_t>(rows.size());
  const int64_t hidden_size = hidden_states.size(1);
  const TensorView row_ids = upload_indices(context, rows);
  const TensorView target_ids = upload_indices(context, targets);
  const TensorView x = workspace.take(context.forward.dtype, {count, hidden_size});
  backend.embedding({.ids = row_ids, .table = hidden_states, .out = x});  // gathers the rows
  const TensorView logits = workspace.take(DType::kF32, {count, lm_head.out_features()});
  backend.linear({.x = x, .weight = &lm_head, .num_decode_rows = 0, .out = logits});
  if (tap) show_logits(context, rows, logits, tap);
  const bool wants_gradients = static_cast<bool>(d_hidden_states);
  TensorView d_logits = wants_gradients ? logits : TensorView();
  if (wants_gradients && context.forward.dtype != DType::kF32) {
    d_logits = workspace.take(context.forward.dtype, logits.shape());
  }
  context.training.cross_entropy(
      {.logits = logits, .targets = target_ids, .scale = scale, .losses = losses, .d_logits = d_logits});
  if (!wants_gradients) return;
  const TensorView d_x = context.zeros_f32(count, hidden_size);
  context.training.linear_backward({.x = x,
                                    .weight = &lm_head,
                                    .d_out = d_logits,
                                    .d_x = d_x,
                                    .d_weight = context.gradients.find(lm_head.weight),
                                    .d_bias = {}});
  // The backward of the gather.
  context.training.embedding_backward({.ids = row_ids, .d_out = d_x, .d_table = d_hidden_states});
}

}  // namespace

LossSum head_loss(const BackwardContext& context, const ops::LinearWeight& lm_head,
                  const ConstTensorView& hidden_states, std::span<const int32_t> targets, float scale,
                  const TensorView& d_hidden_states, std::span<float> token_losses, const LogitsTap& tap) {
  std::vector<int32_t> rows;
  std::vector<int32_t> wanted;
  for (size_t row = 0; row < targets.size(); ++row) {
    if (targets[row] < 0) continue;
    rows.push_back(static_cast<int32_t>(row));
    wanted.push_back(targets[row]);
  }
  LossSum sum;
  if (rows.empty()) return sum;
  ops::Backend& backend = context.forward.backend;
  const auto num_rows = static_cast<int64_t>(rows.size());
  const TensorView losses = context.forward.workspace.take(DType::kF32, {num_rows});
  const int64_t row_bytes = lm_head.out_features() * dtype_bytes(DType::kF32);
  const auto piece_rows = static_cast<size_t>(std::max<int64_t>(1, logit_bytes(backend) / row_bytes));
  for (size_t begin = 0; begin < rows.size(); begin += piece_rows) {
    const size_t count = std::min(piece_rows, rows.size() - begin);
    piece_loss(context, lm_head, hidden_states, std::span(rows).subspan(begin, count),
               std::span(wanted).subspan(begin, count), scale,
               losses.rows(static_cast<int64_t>(begin), static_cast<int64_t>(count)), d_hidden_states, tap);
  }
  std::vector<float> values(rows.size());
  backend.synchronize();
  backend.download(losses.raw(), values.data(), num_rows * dtype_bytes(DType::kF32));
  for (size_t i = 0; i < rows.size(); ++i) {
    sum.loss += static_cast<double>(values[i]);
    if (!token_losses.empty()) token_losses[static_cast<size_t>(rows[i])] = values[i];
  }
  sum.num_targets = static_cast<int64_t>(rows.size());
  return sum;
}

}  // namespace nemoforge::train
