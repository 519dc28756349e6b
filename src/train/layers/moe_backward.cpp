#include <vector>

#include "train/layers/mixers_backward.h"

namespace nemoforge::train {
namespace {

// The experts of one projection, with their adapter pairs.
void experts_backward(const BackwardContext& context, const ConstTensorView& x, const TensorView& offsets,
                      const std::vector<ops::LinearWeight>& weights, model::LoraTarget target,
                      const ConstTensorView& d_out, const TensorView& d_x) {
  std::vector<TensorView> d_weights;
  for (const ops::LinearWeight& weight : weights) {
    const TensorView gradient = context.gradients.find(weight.weight);
    if (gradient) d_weights.push_back(gradient);
  }
  context.training.grouped_linear_backward(
      {.x = x, .offsets = offsets, .weights = weights, .d_out = d_out, .d_x = d_x, .d_weights = d_weights});
  if (context.adapter() == nullptr) return;
  const auto& pairs = context.adapter()->find_experts(context.forward.layer_idx, target);
  std::vector<ops::LoraBackwardRun> runs;
  // An adapter that trains has a pair for every expert or for none.
  for (const ops::LoraWeight& pair : pairs) {
    runs.push_back({.begin = 0,
                    .end = 0,
                    .weight = &pair,
                    .d_a = context.gradients.find(pair.a),
                    .d_b = context.gradients.find(pair.b)});
  }
  if (!runs.empty()) adapters_backward(context, x, target, runs, offsets, d_out, d_x);
}

}  // namespace

void moe_backward(const BackwardContext& context, const model::MoeWeights& weights, const ConstTensorView& x,
                  const model::MoeActivations& activations, const ConstTensorView& d_out,
                  const TensorView& d_x) {
  using enum model::LoraTarget;
  const model::ModelConfig& config = context.forward.config;
  const int64_t num_sorted = activations.dispatched.size(0);

  mlp_backward(context, weights.shared_experts, x, activations.shared, kSharedUpProj, kSharedDownProj, d_out,
               d_x);

  const TensorView d_expert_out = context.zeros(num_sorted, config.hidden_size);
  const TensorView d_expert_weights = context.zeros_f32(x.size(0), config.num_experts_per_tok);
  context.training.moe_combine_backward({.expert_out = activations.expert_out,
                                         .row_of = activations.row_of,
                                         .expert_weights = activations.expert_weights,
                                         .d_out = d_out,
                                         .d_expert_out = d_expert_out,
                                         .d_expert_weights = d_expert_weights});
  const TensorView d_activated = context.zeros(num_sorted, config.moe_intermediate_size);
  experts_backward(context, activations.activated, activations.offsets, weights.down_proj, kExpertDownProj,
                   d_expert_out, d_activated);
  const TensorView d_up = context.zeros(num_sorted, config.moe_intermediate_size);
  context.training.relu2_backward({.x = activations.up, .d_out = d_activated, .d_x = d_up});
  const TensorView d_dispatched = context.zeros(num_sorted, config.hidden_size);
  experts_backward(context, activations.dispatched, activations.offsets, weights.up_proj, kExpertUpProj, d_up,
                   d_dispatched);
  context.training.moe_dispatch_backward(
      {.row_of = activations.row_of, .d_dispatched = d_dispatched, .d_x = d_x});

  const TensorView d_logits = context.zeros_f32(x.size(0), config.n_routed_experts);
  context.training.router_backward({.logits = activations.router_logits,
                                    .expert_ids = activations.expert_ids,
                                    .normalize = config.norm_topk_prob,
                                    .scale = config.routed_scaling_factor,
                                    .d_expert_weights = d_expert_weights,
                                    .d_logits = d_logits});
  context.training.linear_backward({.x = x,
                                    .weight = &weights.gate,
                                    .d_out = d_logits,
                                    .d_x = d_x,
                                    .d_weight = context.gradients.find(weights.gate.weight),
                                    .d_bias = {}});
}

}  // namespace nemoforge::train
