#include "model/layers/forward_context.h"

#include <vector>

namespace nemoforge::model {
namespace {

void run_linear(const ForwardContext& context, const ConstTensorView& x, const ops::LinearWeight& weight,
                LoraTarget target, const TensorView& out) {
  context.backend.linear({.x = x, .weight = &weight, .num_decode_rows = context.rows.num_decode, .out = out});
  if (context.adapters.empty()) return;
  std::vector<ops::LoraRun> runs;
  for (const AdapterRows& range : context.adapters) {
    const ops::LoraWeight* pair = range.adapter->find(context.layer_idx, target);
    if (pair != nullptr) runs.push_back({range.begin, range.end, pair});
  }
  add_adapters(context, x, target, runs, {}, out);
}

}  // namespace

void add_adapters(const ForwardContext& context, const ConstTensorView& x, LoraTarget target,
                  std::span<const ops::LoraRun> runs, const ConstTensorView& offsets, const TensorView& out) {
  if (runs.empty()) return;
  const ConstTensorView adapter_x =
      context.adapter_input == nullptr ? x : context.adapter_input->apply(context, target, x);
  context.backend.lora_add({.x = adapter_x, .runs = runs, .offsets = offsets, .out = out});
}

TensorView linear(const ForwardContext& context, const ConstTensorView& x, const ops::LinearWeight& weight,
                  LoraTarget target) {
  const TensorView out = context.take(weight.out_features());
  run_linear(context, x, weight, target, out);
  return out;
}

TensorView linear_to_residual(const ForwardContext& context, const ConstTensorView& x,
                              const ops::LinearWeight& weight, LoraTarget target) {
  const TensorView out = context.take_f32(weight.out_features());
  run_linear(context, x, weight, target, out);
  return out;
}

}  // namespace nemoforge::model
