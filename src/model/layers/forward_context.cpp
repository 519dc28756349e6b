#include "model/layers/forward_context.h"

#include <vector>

namespace nemoforge::model {

TensorView linear(const ForwardContext& context, const ConstTensorView& x, const ops::LinearWeight& weight,
                  LoraTarget target) {
  const TensorView out = context.take(weight.out_features());
  context.backend.linear({.x = x, .weight = &weight, .num_decode_rows = context.rows.num_decode, .out = out});
  if (context.adapters.empty()) return out;
  std::vector<ops::LoraRun> runs;
  for (const AdapterRows& range : context.adapters) {
    const ops::LoraWeight* pair = range.adapter->find(context.layer_idx, target);
    if (pair != nullptr) runs.push_back({range.begin, range.end, pair});
  }
  if (!runs.empty()) context.backend.lora_add({.x = x, .runs = runs, .out = out});
  return out;
}

}  // namespace nemoforge::model
