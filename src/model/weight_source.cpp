#include "model/weight_source.h"

#include <utility>

namespace nemoforge::model {
namespace {

using ops::LinearWeight;

Result<LinearWeight> linear(WeightSource& source, const std::string& name, int64_t out_features,
                            int64_t in_features, bool has_bias) {
  LinearWeight weight;
  NF_TRY(weight.weight, source.matrix(name + ".weight", {out_features, in_features}));
  if (has_bias) {
    NF_TRY(weight.bias, source.parameter(name + ".bias", {out_features}, ParameterRole::kBias));
  }
  return weight;
}

Result<MambaWeights> mamba(const ModelConfig& config, WeightSource& source, const std::string& mixer) {
  const int64_t inner = config.mamba_intermediate_size();
  const int64_t conv = config.mamba_conv_size();
  const Shape heads{config.mamba_num_heads};
  MambaWeights weights;
  NF_TRY(weights.in_proj, linear(source, mixer + "in_proj", config.mamba_projection_size(),
                                 config.hidden_size, config.use_bias));
  NF_TRY(weights.out_proj, linear(source, mixer + "out_proj", config.hidden_size, inner, config.use_bias));
  // PyTorch's depthwise Conv1d keeps a dimension for the one input channel of each group.
  NF_TRY(
      const ConstTensorView conv_weight,
      source.parameter(mixer + "conv1d.weight", {conv, 1, config.conv_kernel}, ParameterRole::kConvWeight));
  weights.conv_weight = conv_weight.reshape({conv, config.conv_kernel});
  if (config.use_conv_bias) {
    NF_TRY(weights.conv_bias, source.parameter(mixer + "conv1d.bias", {conv}, ParameterRole::kBias));
  }
  NF_TRY(weights.a_log, source.parameter(mixer + "A_log", heads, ParameterRole::kALog));
  NF_TRY(weights.d, source.parameter(mixer + "D", heads, ParameterRole::kD));
  NF_TRY(weights.dt_bias, source.parameter(mixer + "dt_bias", heads, ParameterRole::kDtBias));
  NF_TRY(weights.norm, source.parameter(mixer + "norm.weight", {inner}, ParameterRole::kNorm));
  return weights;
}

Result<AttentionWeights> attention(const ModelConfig& config, WeightSource& source,
                                   const std::string& mixer) {
  const int64_t hidden = config.hidden_size;
  const bool bias = config.attention_bias;
  AttentionWeights weights;
  NF_TRY(weights.q_proj, linear(source, mixer + "q_proj", config.q_size(), hidden, bias));
  NF_TRY(weights.k_proj, linear(source, mixer + "k_proj", config.kv_size(), hidden, bias));
  NF_TRY(weights.v_proj, linear(source, mixer + "v_proj", config.kv_size(), hidden, bias));
  NF_TRY(weights.o_proj, linear(source, mixer + "o_proj", hidden, config.q_size(), bias));
  return weights;
}

Result<MlpWeights> mlp(const ModelConfig& config, WeightSource& source, const std::string& mixer,
                       int64_t intermediate_size) {
  MlpWeights weights;
  NF_TRY(weights.up_proj,
         linear(source, mixer + "up_proj", intermediate_size, config.hidden_size, config.mlp_bias));
  NF_TRY(weights.down_proj,
         linear(source, mixer + "down_proj", config.hidden_size, intermediate_size, config.mlp_bias));
  return weights;
}

Result<std::vector<LinearWeight>> experts(const ModelConfig& config, WeightSource& source,
                                          const std::string& mixer, const std::string& projection,
                                          const Shape& shape) {
  NF_TRY(const std::vector<ConstTensorView> matrices,
         source.expert_matrices(mixer + "experts", projection, config.n_routed_experts, shape));
  std::vector<LinearWeight> weights;
  for (const ConstTensorView& matrix : matrices) weights.push_back({matrix, {}});
  return weights;
}

Result<MoeWeights> moe(const ModelConfig& config, WeightSource& source, const std::string& mixer) {
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.moe_intermediate_size;
  MoeWeights weights;
  NF_TRY(weights.gate.weight, source.matrix_f32(mixer + "gate.weight", {config.n_routed_experts, hidden}));
  NF_TRY(weights.correction_bias,
         source.parameter(mixer + "gate.e_score_correction_bias", {config.n_routed_experts},
                          ParameterRole::kCorrectionBias));
  NF_TRY(weights.up_proj, experts(config, source, mixer, "up_proj", {inner, hidden}));
  NF_TRY(weights.down_proj, experts(config, source, mixer, "down_proj", {hidden, inner}));
  NF_TRY(weights.shared_experts,
         mlp(config, source, mixer + "shared_experts.", config.moe_shared_expert_intermediate_size));
  return weights;
}

Result<LayerWeights> layer(const ModelConfig& config, WeightSource& source, LayerKind kind,
                           const std::string& prefix) {
  LayerWeights weights;
  NF_TRY(weights.norm, source.parameter(prefix + "norm.weight", {config.hidden_size}, ParameterRole::kNorm));
  const std::string mixer = prefix + "mixer.";
  switch (kind) {
    case LayerKind::kMamba: {
      NF_TRY(weights.mixer, mamba(config, source, mixer));
      break;
    }
    case LayerKind::kAttention: {
      NF_TRY(weights.mixer, attention(config, source, mixer));
      break;
    }
    case LayerKind::kMoe: {
      NF_TRY(weights.mixer, moe(config, source, mixer));
      break;
    }
    case LayerKind::kMlp: {
      NF_TRY(weights.mixer, mlp(config, source, mixer, config.intermediate_size));
      break;
    }
  }
  return weights;
}

}  // namespace

bool is_kept_in_f32(ParameterRole role) {
  switch (role) {
    case ParameterRole::kALog:
    case ParameterRole::kD:
    case ParameterRole::kDtBias:
    case ParameterRole::kCorrectionBias:
      return true;
    case ParameterRole::kNorm:
    case ParameterRole::kConvWeight:
    case ParameterRole::kBias:
      return false;
  }
  return false;
}

Result<ModelWeights> assemble_weights(const ModelConfig& config, WeightSource& source) {
  const Shape table{config.vocab_size, config.hidden_size};
  ModelWeights weights;
  NF_TRY(weights.embeddings, source.matrix("embeddings.weight", table));
  for (int64_t layer_idx = 0; layer_idx < config.num_hidden_layers(); ++layer_idx) {
    const std::string prefix = "layers." + std::to_string(layer_idx) + ".";
    NF_TRY(LayerWeights one, layer(config, source, config.layers[static_cast<size_t>(layer_idx)], prefix));
    weights.layers.push_back(std::move(one));
  }
  NF_TRY(weights.norm_f, source.parameter("norm_f.weight", {config.hidden_size}, ParameterRole::kNorm));
  if (config.tie_word_embeddings && !source.has("lm_head.weight")) {
    weights.lm_head.weight = weights.embeddings;
  } else {
    NF_TRY(weights.lm_head.weight, source.matrix("lm_head.weight", table));
  }
  return weights;
}

}  // namespace nemoforge::model
