#include "model/layers/mamba2.h"

namespace nemoforge::model {

Mamba2Activations mamba2(const ForwardContext& context, const MambaWeights& weights, const ConstTensorView& x,
                         const MambaCache* cache) {
  const ModelConfig& config = context.config;
  const int64_t inner = config.mamba_intermediate_size();
  const int64_t conv = config.mamba_conv_size();
  const int64_t bc = config.n_groups * config.ssm_state_size;

  Mamba2Activations out;
  out.projected = linear(context, x, weights.in_proj, LoraTarget::kInProj);
  out.convolved = context.take(conv);
  out.scanned = context.take_f32(inner);
  out.normed = context.take(inner);
  const ops::CausalConv1dArgs conv_args{.rows = &context.rows,
                                        .x = out.projected.columns(inner, conv),
                                        .weight = weights.conv_weight,
                                        .bias = weights.conv_bias,
                                        .conv_state = cache != nullptr ? cache->conv_state : TensorView(),
                                        .out = out.convolved};
  const ops::SsdScanArgs scan_args{.rows = &context.rows,
                                   .x = out.convolved.columns(0, inner),
                                   .b = out.convolved.columns(inner, bc),
                                   .c = out.convolved.columns(inner + bc, bc),
                                   .dt_raw = out.projected.columns(inner + conv, config.mamba_num_heads),
                                   .a_log = weights.a_log,
                                   .d = weights.d,
                                   .dt_bias = weights.dt_bias,
                                   .num_heads = config.mamba_num_heads,
                                   .head_dim = config.mamba_head_dim,
                                   .num_groups = config.n_groups,
                                   .state_size = config.ssm_state_size,
                                   .chunk_size = config.chunk_size,
                                   .ssm_state = cache != nullptr ? cache->ssm_state : TensorView(),
                                   .y = out.scanned};
  const ops::GatedRmsNormArgs norm_args{.y = out.scanned,
                                        .z = out.projected.columns(0, inner),
                                        .weight = weights.norm,
                                        .num_groups = config.n_groups,
                                        .epsilon = config.layer_norm_epsilon,
                                        .out = out.normed};
  context.backend.mamba_core({.conv = conv_args, .scan = scan_args, .norm = norm_args});
  out.out = linear_to_residual(context, out.normed, weights.out_proj, LoraTarget::kOutProj);
  return out;
}

}  // namespace nemoforge::model
