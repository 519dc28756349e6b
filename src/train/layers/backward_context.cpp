#include "train/layers/backward_context.h"

namespace nemoforge::train {

namespace {

TensorView zeros_of(const BackwardContext& context, DType dtype, const Shape& shape) {
  const TensorView view = context.forward.workspace.take(dtype, shape);
  context.forward.backend.fill_zero(view.raw(), view.numel() * dtype_bytes(dtype));
  return view;
}

}  // namespace

TensorView BackwardContext::zeros(int64_t num_rows, int64_t num_columns) const {
  return zeros_of(*this, forward.dtype, {num_rows, num_columns});
}

TensorView BackwardContext::zeros_f32(int64_t num_rows, int64_t num_columns) const {
  return zeros_of(*this, DType::kF32, {num_rows, num_columns});
}

const model::LoraAdapter* BackwardContext::adapter() const {
  return forward.adapters.empty() ? nullptr : forward.adapters[0].adapter;
}

void linear_backward(const BackwardContext& context, const ConstTensorView& x,
                     const ops::LinearWeight& weight, model::LoraTarget target, const ConstTensorView& d_out,
                     const TensorView& d_x) {
  context.training.linear_backward({.x = x,
                                    .weight = &weight,
                                    .d_out = d_out,
                                    .d_x = d_x,
                                    .d_weight = context.gradients.find(weight.weight),
                                    .d_bias = context.gradients.find(weight.bias)});
  if (context.adapter() == nullptr) return;
  const ops::LoraWeight* pair = context.adapter()->find(context.forward.layer_idx, target);
  if (pair == nullptr) return;
  const ops::LoraBackwardRun run = {.begin = 0,
                                    .end = x.size(0),
                                    .weight = pair,
                                    .d_a = context.gradients.find(pair->a),
                                    .d_b = context.gradients.find(pair->b)};
  adapters_backward(context, x, target, {&run, 1}, {}, d_out, d_x);
}

void adapters_backward(const BackwardContext& context, const ConstTensorView& x, model::LoraTarget target,
                       std::span<const ops::LoraBackwardRun> runs, const ConstTensorView& offsets,
                       const ConstTensorView& d_out, const TensorView& d_x) {
  if (context.dropout == nullptr) {
    context.training.lora_backward({.x = x, .runs = runs, .offsets = offsets, .d_out = d_out, .d_x = d_x});
    return;
  }
  const ConstTensorView dropped = context.dropout->apply(context.forward, target, x);
  const TensorView d_dropped = context.zeros(x.size(0), x.size(1));
  context.training.lora_backward(
      {.x = dropped, .runs = runs, .offsets = offsets, .d_out = d_out, .d_x = d_dropped});
  context.dropout->add_gradient(context.forward.layer_idx, target, d_dropped, d_x);
}

}  // namespace nemoforge::train
