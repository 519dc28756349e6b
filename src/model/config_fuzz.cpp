// Any bytes as a config.json: what is accepted has sizes whose products can be computed.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nemoforge::model;
  const auto config = parse_model_config(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!config) return 0;
  const auto positive = [](int64_t value) {
    if (value <= 0) std::abort();
  };
  positive(config->vocab_size * config->hidden_size);
  if (config->has_layer(LayerKind::kMamba)) {
    positive(config->mamba_projection_size() * config->hidden_size);
    positive(config->mamba_intermediate_size() * config->ssm_state_size);
  }
  if (config->has_layer(LayerKind::kAttention)) positive(config->q_size() * config->hidden_size);
  if (config->has_layer(LayerKind::kMoe)) {
    positive(config->n_routed_experts * config->moe_intermediate_size * config->hidden_size);
    if (config->num_experts_per_tok > config->n_routed_experts) std::abort();
  }
  return 0;
}
