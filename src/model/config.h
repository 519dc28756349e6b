// The architecture of a nemotron_h checkpoint, as config.json states it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/json.h"

namespace nemoforge::model {

// What a layer's mixer is.
enum class LayerKind : uint8_t { kMamba, kMoe, kAttention, kMlp };

// "M", "E", "*" or "-": the letter of hybrid_override_pattern.
[[nodiscard]] char layer_kind_letter(LayerKind kind);

// Fields keep the names of config.json. A configuration that parse_model_config returned is consistent, and
// so bounded that no product of its sizes overflows int64_t.
struct ModelConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  std::vector<LayerKind> layers;  // hybrid_override_pattern or layers_block_type
  float layer_norm_epsilon = 1e-5f;
  bool tie_word_embeddings = false;
  int64_t max_position_embeddings = 0;

  // Mamba-2
  int64_t mamba_num_heads = 0;
  int64_t mamba_head_dim = 0;
  int64_t n_groups = 0;
  int64_t ssm_state_size = 0;
  int64_t conv_kernel = 0;
  int64_t chunk_size = 0;
  bool use_bias = false;  // of in_proj and out_proj
  bool use_conv_bias = true;

  // Attention
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  bool attention_bias = false;

  // Mixture of experts
  int64_t n_routed_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;
  int64_t moe_shared_expert_intermediate_size = 0;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  bool norm_topk_prob = true;
  float routed_scaling_factor = 1;

  // Dense MLP
  int64_t intermediate_size = 0;
  bool mlp_bias = false;  // of the dense MLP and the shared expert

  // Tokens
  int64_t bos_token_id = -1;  // -1: none
  int64_t pad_token_id = -1;  // -1: none
  std::vector<int64_t> eos_token_ids;

  [[nodiscard]] int64_t num_hidden_layers() const { return static_cast<int64_t>(layers.size()); }
  [[nodiscard]] bool has_layer(LayerKind kind) const;
  [[nodiscard]] int64_t num_layers(LayerKind kind) const;
  // "MEM*E-M"
  [[nodiscard]] std::string pattern() const;

  // Mamba-2: channels of z and of the mixer's output; of the convolution (x, B and C); of in_proj's output.
  [[nodiscard]] int64_t mamba_intermediate_size() const { return mamba_num_heads * mamba_head_dim; }
  [[nodiscard]] int64_t mamba_conv_size() const {
    return mamba_intermediate_size() + 2 * n_groups * ssm_state_size;
  }
  [[nodiscard]] int64_t mamba_projection_size() const {
    return mamba_intermediate_size() + mamba_conv_size() + mamba_num_heads;
  }
  // Attention: channels of q, and of each of k and v.
  [[nodiscard]] int64_t q_size() const { return num_attention_heads * head_dim; }
  [[nodiscard]] int64_t kv_size() const { return num_key_value_heads * head_dim; }

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

// From the object of config.json. Keys that nemoforge does not know are ignored; a known key with a value
// that would change the mathematics in a way nemoforge does not implement is kUnsupported; a missing,
// mistyped, out-of-range or inconsistent one is kInvalidData. The message names the key and the value.
[[nodiscard]] Result<ModelConfig> parse_model_config(const io::Json& json);

// The text of a config.json (bare Infinity allowed).
[[nodiscard]] Result<ModelConfig> parse_model_config(std::string_view text);

// `folder`/config.json, with the eos tokens of `folder`/generation_config.json where it has any (as
// transformers' generate does). Errors name the file.
[[nodiscard]] Result<ModelConfig> load_model_config(const std::string& folder);

}  // namespace nemoforge::model
