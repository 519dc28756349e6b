#include "model/shape_check.h"

#include <string>

namespace nemoforge::model {
namespace {

Status check_field(const char* field, int64_t value, int64_t limit) {
  if (value <= limit) return {};
  return error(ErrorCode::kUnsupported,
               "config.json: " + std::string(field) + " is " + std::to_string(value) +
                   ", and this device's kernels take at most " + std::to_string(limit),
               "--device cpu has no such limit");
}

}  // namespace

Status check_shapes(const ModelConfig& config, const ops::ShapeLimits& limits) {
  NF_RETURN_IF_ERROR(check_field("hidden_size", config.hidden_size, limits.hidden_size));
  if (config.has_layer(LayerKind::kAttention))
    NF_RETURN_IF_ERROR(check_field("head_dim", config.head_dim, limits.head_dim));
  if (config.has_layer(LayerKind::kMamba)) {
    NF_RETURN_IF_ERROR(check_field("ssm_state_size", config.ssm_state_size, limits.ssm_state_size));
    NF_RETURN_IF_ERROR(check_field("mamba_num_heads * mamba_head_dim / n_groups",
                                   config.mamba_intermediate_size() / config.n_groups,
                                   limits.norm_group_size));
  }
  if (config.has_layer(LayerKind::kMoe)) {
    NF_RETURN_IF_ERROR(check_field("n_routed_experts", config.n_routed_experts, limits.num_experts));
    NF_RETURN_IF_ERROR(check_field("n_group", config.n_group, limits.num_expert_groups));
    NF_RETURN_IF_ERROR(check_field("num_experts_per_tok", config.num_experts_per_tok, limits.top_k));
  }
  return {};
}

}  // namespace nemoforge::model
