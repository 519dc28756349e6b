#include "train/recomputation.h"

#include "train/trainable_model.h"

namespace nemoforge::train {
namespace {

// Elements that the mixers of model/layers take from the workspace, and the normed input.
int64_t mixer_elements(const model::ModelConfig& config, model::LayerKind kind) {
  const int64_t hidden = config.hidden_size;
  const int64_t in_and_out = 2 * hidden;
  const int64_t top_k = config.num_experts_per_tok;
  switch (kind) {
    case model::LayerKind::kMamba:
      return in_and_out + config.mamba_projection_size() + config.mamba_conv_size() +
             2 * config.mamba_intermediate_size();
    case model::LayerKind::kAttention:
      return in_and_out + 2 * config.q_size() + 2 * config.kv_size();
    case model::LayerKind::kMoe: {
      const int64_t routing = config.n_routed_experts + 4 * top_k;
      const int64_t experts = top_k * (2 * hidden + 2 * config.moe_intermediate_size);
      const int64_t shared = 2 * config.moe_shared_expert_intermediate_size + hidden;
      return in_and_out + routing + experts + shared;
    }
    case model::LayerKind::kMlp:
      return in_and_out + 2 * config.intermediate_size;
  }
  return 0;
}

// Elements of the inputs of the layer's adapters, each of which has a mask of its own.
int64_t adapter_input_elements(const model::ModelConfig& config, model::LayerKind kind,
                               const LoraTargets& targets) {
  const int64_t hidden = config.hidden_size;
  switch (kind) {
    case model::LayerKind::kMamba:
      return targets.mamba ? hidden + config.mamba_intermediate_size() : 0;
    case model::LayerKind::kAttention:
      return targets.attention ? 3 * hidden + config.q_size() : 0;
    case model::LayerKind::kMoe: {
      const int64_t experts = config.num_experts_per_tok * (hidden + config.moe_intermediate_size);
      const int64_t shared = hidden + config.moe_shared_expert_intermediate_size;
      return (targets.experts ? experts : 0) + (targets.shared_experts ? shared : 0);
    }
    case model::LayerKind::kMlp:
      return targets.mlp ? hidden + config.intermediate_size : 0;
  }
  return 0;
}

}  // namespace

bool Recomputation::runs_again(model::LayerKind kind) const {
  switch (kind) {
    case model::LayerKind::kMamba:
      return mamba;
    case model::LayerKind::kAttention:
      return attention;
    case model::LayerKind::kMoe:
      return moe;
    case model::LayerKind::kMlp:
      return mlp;
  }
  return true;
}

std::string layer_kind_name(model::LayerKind kind) {
  switch (kind) {
    case model::LayerKind::kMamba:
      return "mamba";
    case model::LayerKind::kAttention:
      return "attention";
    case model::LayerKind::kMoe:
      return "moe";
    case model::LayerKind::kMlp:
      return "mlp";
  }
  return "";
}

Result<Recomputation> parse_recomputation(const std::vector<std::string>& kinds) {
  if (kinds == std::vector<std::string>{"all"}) return Recomputation{};
  Recomputation result{.mamba = false, .attention = false, .moe = false, .mlp = false};
  if (kinds == std::vector<std::string>{"none"}) return result;
  for (const std::string& kind : kinds) {
    if (kind == "mamba") {
      result.mamba = true;
    } else if (kind == "attention") {
      result.attention = true;
    } else if (kind == "moe") {
      result.moe = true;
    } else if (kind == "mlp") {
      result.mlp = true;
    } else {
      return error(ErrorCode::kInvalidArgument,
                   "cannot run '" + kind + "' again: none, all, or some of mamba, attention, moe, mlp");
    }
  }
  return result;
}

int64_t activation_bytes_per_row(const model::ModelConfig& config, model::LayerKind kind,
                                 const LoraOptions* lora, DType dtype) {
  int64_t elements = mixer_elements(config, kind);
  if (lora != nullptr && lora->dropout > 0) elements += adapter_input_elements(config, kind, lora->targets);
  return dtype_bytes(dtype) * elements;
}

}  // namespace nemoforge::train
