#include "bench/model_work.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/integers.h"
#include "model/caches.h"

namespace nemoforge::bench {
namespace {

using model::LayerKind;
using model::ModelConfig;

double bytes_of(const ConstTensorView& tensor) {
  return tensor ? static_cast<double>(tensor.numel() * dtype_bytes(tensor.dtype())) : 0;
}

double bytes_of(const ops::LinearWeight& weight) {
  return bytes_of(weight.weight) + bytes_of(weight.bias);
}

double bytes_of(const model::MlpWeights& weights) {
  return bytes_of(weights.up_proj) + bytes_of(weights.down_proj);
}

// Bytes of a mixer that a decode step reads, with `num_experts` experts chosen by some token.
struct ActiveBytes {
  double num_experts;

  double operator()(const model::MambaWeights& weights) const {
    return bytes_of(weights.in_proj) + bytes_of(weights.out_proj) + bytes_of(weights.conv_weight) +
           bytes_of(weights.norm);
  }
  double operator()(const model::AttentionWeights& weights) const {
    return bytes_of(weights.q_proj) + bytes_of(weights.k_proj) + bytes_of(weights.v_proj) +
           bytes_of(weights.o_proj);
  }
  double operator()(const model::MoeWeights& weights) const {
    return bytes_of(weights.gate) + bytes_of(weights.shared_experts) +
           num_experts * (bytes_of(weights.up_proj[0]) + bytes_of(weights.down_proj[0]));
  }
  double operator()(const model::MlpWeights& weights) const { return bytes_of(weights); }
};

}  // namespace

ModelConfig nemotron_nano_config(const std::string& pattern) {
  const auto config = model::parse_model_config(std::string_view(
      R"({"model_type": "nemotron_h", "vocab_size": 131072, "hidden_size": 2688, "hybrid_override_pattern": ")" +
      pattern +
      R"(", "mamba_num_heads": 64, "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128, "conv_kernel": 4,
          "chunk_size": 128, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128,
          "n_routed_experts": 128, "num_experts_per_tok": 6, "moe_intermediate_size": 1856,
          "moe_shared_expert_intermediate_size": 3712, "intermediate_size": 1856, "routed_scaling_factor": 2.5,
          "max_position_embeddings": 262144, "eos_token_id": [2, 11]})"));
  NF_CHECK(config.has_value()) << config.error().message;
  return *config;
}

double active_weight_bytes(const ModelConfig& config, const model::ModelWeights& weights,
                           int64_t batch_size) {
  const auto experts = static_cast<double>(config.n_routed_experts);
  const double idle_share = experts == 0
                                ? 1
                                : std::pow(1 - static_cast<double>(config.num_experts_per_tok) / experts,
                                           static_cast<double>(batch_size));
  double bytes = bytes_of(weights.lm_head) + bytes_of(weights.norm_f);
  for (const model::LayerWeights& layer : weights.layers) {
    bytes += bytes_of(layer.norm) + std::visit(ActiveBytes{experts * (1 - idle_share)}, layer.mixer);
  }
  return bytes;
}

double state_bytes(const ModelConfig& config, DType dtype, int64_t context_len) {
  const model::CacheSizes one_token{.num_slots = 1, .num_blocks = 1, .block_size = 1, .kv_dtype = dtype};
  return 2 * static_cast<double>(model::ModelCaches::slot_bytes(config, dtype)) +
         static_cast<double>(context_len * model::ModelCaches::block_bytes(config, one_token));
}

std::vector<MatrixProduct> prefill_products(const ModelConfig& config, int64_t num_rows) {
  const int64_t hidden = config.hidden_size;
  std::vector<MatrixProduct> products;
  const auto add = [&](int64_t rows, int64_t in, int64_t out, int64_t count) {
    if (count > 0) products.push_back({rows, in, out, count});
  };
  const int64_t mamba = config.num_layers(LayerKind::kMamba);
  add(num_rows, hidden, config.mamba_projection_size(), mamba);
  add(num_rows, config.mamba_intermediate_size(), hidden, mamba);
  const int64_t attention = config.num_layers(LayerKind::kAttention);
  add(num_rows, hidden, config.q_size(), attention);
  add(num_rows, hidden, config.kv_size(), 2 * attention);
  add(num_rows, config.q_size(), hidden, attention);
  const int64_t mlp = config.num_layers(LayerKind::kMlp);
  add(num_rows, hidden, config.intermediate_size, mlp);
  add(num_rows, config.intermediate_size, hidden, mlp);
  if (const int64_t moe = config.num_layers(LayerKind::kMoe); moe > 0) {
    const int64_t sorted_rows = num_rows * config.num_experts_per_tok;
    const int64_t busy_experts = std::min(config.n_routed_experts, sorted_rows);
    const int64_t rows_each = ceil_div(sorted_rows, busy_experts);
    add(num_rows, hidden, config.n_routed_experts, moe);
    add(rows_each, hidden, config.moe_intermediate_size, moe * busy_experts);
    add(rows_each, config.moe_intermediate_size, hidden, moe * busy_experts);
    add(num_rows, hidden, config.moe_shared_expert_intermediate_size, moe);
    add(num_rows, config.moe_shared_expert_intermediate_size, hidden, moe);
  }
  add(1, hidden, config.vocab_size, 1);
  return products;
}

}  // namespace nemoforge::bench
