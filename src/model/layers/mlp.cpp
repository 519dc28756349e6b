#include "model/layers/mlp.h"

namespace nemoforge::model {

MlpActivations dense_mlp(const ForwardContext& context, const MlpWeights& weights, const ConstTensorView& x) {
  MlpActivations out;
  out.up = linear(context, x, weights.up_proj, LoraTarget::kUpProj);
  out.activated = context.take(out.up.size(1));
  context.backend.relu2({.x = out.up, .out = out.activated});
  out.out = linear_to_residual(context, out.activated, weights.down_proj, LoraTarget::kDownProj);
  return out;
}

MlpActivations shared_expert(const ForwardContext& context, const MlpWeights& weights,
                             const ConstTensorView& x) {
  MlpActivations out;
  out.up = linear(context, x, weights.up_proj, LoraTarget::kSharedUpProj);
  out.activated = context.take(out.up.size(1));
  context.backend.relu2({.x = out.up, .out = out.activated});
  out.out = linear(context, out.activated, weights.down_proj, LoraTarget::kSharedDownProj);
  return out;
}

}  // namespace nemoforge::model
