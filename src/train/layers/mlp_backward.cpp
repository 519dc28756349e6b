#include "train/layers/mixers_backward.h"

namespace nemoforge::train {

void mlp_backward(const BackwardContext& context, const model::MlpWeights& weights, const ConstTensorView& x,
                  const model::MlpActivations& activations, model::LoraTarget up_target,
                  model::LoraTarget down_target, const ConstTensorView& d_out, const TensorView& d_x) {
  const TensorView d_activated = context.zeros(x.size(0), activations.up.size(1));
  linear_backward(context, activations.activated, weights.down_proj, down_target, d_out, d_activated);
  const TensorView d_up = context.zeros(x.size(0), activations.up.size(1));
  context.training.relu2_backward({.x = activations.up, .d_out = d_activated, .d_x = d_up});
  linear_backward(context, x, weights.up_proj, up_target, d_up, d_x);
}

}  // namespace nemoforge::train
