#include "model/layers/mlp.h"

namespace nemoforge::model {

MlpActivations mlp(const ForwardContext& context, const MlpWeights& weights, const ConstTensorView& x,
                   LoraTarget up_target, LoraTarget down_target) {
  MlpActivations out;
  out.up = linear(context, x, weights.up_proj, up_target);
  out.activated = context.take(out.up.size(1));
  context.backend.relu2({.x = out.up, .out = out.activated});
  out.out = linear(context, out.activated, weights.down_proj, down_target);
  return out;
}

}  // namespace nemoforge::model
