#include "train/layers/mixers_backward.h"

namespace nemoforge::train {

void mamba2_backward(const BackwardContext& context, const model::MambaWeights& weights,
                     const ConstTensorView& x, const model::Mamba2Activations& activations,
                     const ConstTensorView& d_out, const TensorView& d_x) {
  const model::ModelConfig& config = context.forward.config;
  const GradientMap& gradients = context.gradients;
  const int64_t num_rows = x.size(0);
  const int64_t inner = config.mamba_intermediate_size();
  const int64_t conv = config.mamba_conv_size();
  const int64_t bc = config.n_groups * config.ssm_state_size;
  const TensorView& projected = activations.projected;
  const TensorView& convolved = activations.convolved;

  const TensorView d_normed = context.zeros(num_rows, inner);
  linear_backward(context, activations.normed, weights.out_proj, model::LoraTarget::kOutProj, d_out,
                  d_normed);
  const TensorView d_projected = context.zeros(num_rows, config.mamba_projection_size());
  const TensorView d_scanned = context.zeros(num_rows, inner);
  context.training.gated_rms_norm_backward({.y = activations.scanned,
                                            .z = projected.columns(0, inner),
                                            .weight = weights.norm,
                                            .num_groups = config.n_groups,
                                            .epsilon = config.layer_norm_epsilon,
                                            .d_out = d_normed,
                                            .d_y = d_scanned,
                                            .d_z = d_projected.columns(0, inner),
                                            .d_weight = gradients.find(weights.norm)});
  const TensorView d_convolved = context.zeros(num_rows, conv);
  context.training.ssd_scan_backward({.rows = &context.forward.rows,
                                      .x = convolved.columns(0, inner),
                                      .b = convolved.columns(inner, bc),
                                      .c = convolved.columns(inner + bc, bc),
                                      .dt_raw = projected.columns(inner + conv, config.mamba_num_heads),
                                      .a_log = weights.a_log,
                                      .d = weights.d,
                                      .dt_bias = weights.dt_bias,
                                      .num_heads = config.mamba_num_heads,
                                      .head_dim = config.mamba_head_dim,
                                      .num_groups = config.n_groups,
                                      .state_size = config.ssm_state_size,
                                      .d_y = d_scanned,
                                      .d_x = d_convolved.columns(0, inner),
                                      .d_b = d_convolved.columns(inner, bc),
                                      .d_c = d_convolved.columns(inner + bc, bc),
                                      .d_dt_raw = d_projected.columns(inner + conv, config.mamba_num_heads),
                                      .d_a_log = gradients.find(weights.a_log),
                                      .d_d = gradients.find(weights.d),
                                      .d_dt_bias = gradients.find(weights.dt_bias)});
  context.training.causal_conv1d_backward({.rows = &context.forward.rows,
                                           .x = projected.columns(inner, conv),
                                           .weight = weights.conv_weight,
                                           .bias = weights.conv_bias,
                                           .d_out = d_convolved,
                                           .d_x = d_projected.columns(inner, conv),
                                           .d_weight = gradients.find(weights.conv_weight),
                                           .d_bias = gradients.find(weights.conv_bias)});
  linear_backward(context, x, weights.in_proj, model::LoraTarget::kInProj, d_projected, d_x);
}

}  // namespace nemoforge::train
