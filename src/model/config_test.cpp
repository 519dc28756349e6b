#include "model/config.h"

#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/temporary_folder.h"
#include "model/shape_check.h"

namespace nemoforge::model {
namespace {

using io::Json;
using testing::HasSubstr;

Json valid_config() {
  return Json::parse(R"({
    "model_type": "nemotron_h", "vocab_size": 320, "hidden_size": 64, "hybrid_override_pattern": "ME*-",
    "num_hidden_layers": 4, "layer_norm_epsilon": 1e-5, "mamba_num_heads": 8, "mamba_head_dim": 16, "n_groups": 2,
    "ssm_state_size": 16, "conv_kernel": 4, "chunk_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 48, "intermediate_size": 96, "eos_token_id": [2, 11]})");
}

// The valid configuration with `changes` merged in (null removes a key's meaning).
Result<ModelConfig> parse_with(const char* changes) {
  Json json = valid_config();
  json.update(Json::parse(changes));
  return parse_model_config(json);
}

struct BadConfig {
  const char* changes;
  ErrorCode code;
  const char* message;
};

class RefusedConfig : public testing::TestWithParam<BadConfig> {};

TEST_P(RefusedConfig, names_the_key_and_the_value) {
  const auto config = parse_with(GetParam().changes);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, GetParam().code);
  EXPECT_THAT(config.error().message, HasSubstr(GetParam().message));
}

constexpr auto kData = ErrorCode::kInvalidData;
constexpr auto kUnsupported = ErrorCode::kUnsupported;
INSTANTIATE_TEST_SUITE_P(
    ModelConfig, RefusedConfig,
    testing::Values(
        BadConfig{R"({"model_type": "llama"})", kUnsupported, "model_type is \"llama\""},
        BadConfig{R"({"model_type": null})", kUnsupported, "model_type is missing"},
        BadConfig{R"({"hidden_size": null})", kData, "hidden_size is missing"},
        BadConfig{R"({"hidden_size": 0})", kData, "hidden_size is 0, not an integer from 1 to"},
        BadConfig{R"({"hidden_size": 1e3})", kData, "hidden_size is 1000.0"},
        BadConfig{R"({"hidden_size": 18446744073709551615})", kData, "hidden_size is 18446744073709551615"},
        BadConfig{R"({"vocab_size": "320"})", kData, "vocab_size is \"320\""},
        BadConfig{R"({"hybrid_override_pattern": "MX"})", kData, "letters other than M, E, * and -"},
        BadConfig{R"({"hybrid_override_pattern": ""})", kData, "there are 0 layers"},
        BadConfig{R"({"hybrid_override_pattern": null})", kData, "are both missing"},
        BadConfig{R"({"layers_block_type": ["mamba", "moe", "mlp", "attention"]})", kData,
                  "say different layers"},
        BadConfig{R"({"layers_block_type": ["rwkv"]})", kData, "layers_block_type holds \"rwkv\""},
        BadConfig{R"({"num_hidden_layers": 5})", kData,
                  "num_hidden_layers is 5, but the pattern has 4 layers"},
        BadConfig{R"({"norm_eps": 1e-6})", kData, "layer_norm_epsilon is 1e-05, but norm_eps"},
        BadConfig{R"({"layer_norm_epsilon": 0})", kData, "not a finite number above zero"},
        BadConfig{R"({"mamba_num_heads": 7})", kData, "not a multiple of n_groups, 2"},
        BadConfig{R"({"conv_kernel": 9})", kData, "conv_kernel is 9, not an integer from 2 to 8"},
        BadConfig{R"({"mamba_hidden_act": "gelu"})", kUnsupported, "mamba_hidden_act is \"gelu\""},
        BadConfig{R"({"mamba_proj_bias": true})", kUnsupported, "mamba_proj_bias is true"},
        BadConfig{R"({"time_step_limit": [0.0, 10.0]})", kUnsupported, "time_step_limit is [0.0,10.0]"},
        BadConfig{R"({"time_step_limit": [0.0, {"__float__": "-Infinity"}]})", kUnsupported,
                  "time_step_limit is [0.0,{\"__float__\":"},
        BadConfig{R"({"quantization_config": {"quant_method": "fp8"}})", kUnsupported,
                  "quantization_config is"},
        BadConfig{R"({"num_attention_heads": 5})", kData, "not a multiple of num_key_value_heads, 2"},
        BadConfig{R"({"attention_head_dim": 32})", kData, "head_dim is 16, but attention_head_dim"},
        BadConfig{R"({"sliding_window": 4096})", kUnsupported, "sliding_window is 4096"},
        BadConfig{R"({"mlp_hidden_act": "silu"})", kUnsupported, "mlp_hidden_act is \"silu\""},
        BadConfig{R"({"moe_latent_size": 32})", kUnsupported, "moe_latent_size is 32"},
        BadConfig{R"({"n_shared_experts": 2})", kUnsupported, "n_shared_experts is 2"},
        BadConfig{R"({"num_experts_per_tok": 9})", kData, "num_experts_per_tok is 9"},
        BadConfig{R"({"n_group": 3})", kData, "groups of at least two for n_group, 3"},
        BadConfig{R"({"n_group": 8})", kData, "groups of at least two"},
        BadConfig{R"({"n_group": 4, "num_experts_per_tok": 3})", kData,
                  "more than the experts of topk_group"},
        BadConfig{R"({"norm_topk_prob": 1})", kData, "norm_topk_prob is 1, not true or false"},
        BadConfig{R"({"eos_token_id": [2, "x"]})", kData, "eos_token_id is [2,\"x\"]"}));

TEST(ModelConfig, reads_every_field) {
  const auto config = parse_with(R"({"n_group": 2, "topk_group": 1, "norm_topk_prob": false,
      "routed_scaling_factor": 2.5, "use_bias": true, "attention_bias": true, "mlp_bias": true, "use_conv_bias": false})");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->pattern(), "ME*-");
  EXPECT_EQ(config->mamba_intermediate_size(), 128);
  EXPECT_EQ(config->mamba_conv_size(), 192);
  EXPECT_EQ(config->mamba_projection_size(), 328);
  EXPECT_EQ(config->q_size(), 64);
  EXPECT_EQ(config->kv_size(), 32);
  EXPECT_EQ(config->n_group, 2);
  EXPECT_FALSE(config->norm_topk_prob);
  EXPECT_EQ(config->routed_scaling_factor, 2.5f);
  EXPECT_TRUE(config->use_bias && config->attention_bias && config->mlp_bias);
  EXPECT_FALSE(config->use_conv_bias);
  EXPECT_EQ(config->eos_token_ids, (std::vector<int64_t>{2, 11}));
}

TEST(ModelConfig, layer_lists_of_both_spellings_equal_the_pattern) {
  const auto pattern = parse_with("{}");
  const auto hub = parse_with(
      R"({"hybrid_override_pattern": null, "layers_block_type": ["mamba", "moe", "attention", "mlp"]})");
  const auto both =
      parse_with(R"({"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]})");
  ASSERT_TRUE(pattern && hub && both);
  EXPECT_EQ(*pattern, *hub);
  EXPECT_EQ(*pattern, *both);
}

TEST(ModelConfig, reads_infinity_in_both_spellings_and_ignores_unknown_keys) {
  std::string text = valid_config().dump();
  text.insert(1, R"("time_step_limit": [0.0, Infinity], "a_key_of_tomorrow": {"x": [NaN]}, )");
  EXPECT_TRUE(parse_model_config(std::string_view(text)));
  EXPECT_TRUE(parse_with(R"({"time_step_limit": [0.0, {"__float__": "Infinity"}]})"));
}

TEST(ModelConfig, asks_only_for_the_fields_of_the_layers_it_has) {
  const auto config = parse_model_config(Json::parse(R"({"model_type": "nemotron_h", "vocab_size": 8,
      "hidden_size": 4, "hybrid_override_pattern": "-", "intermediate_size": 6, "eos_token_id": 3})"));
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->eos_token_ids, std::vector<int64_t>{3});
  EXPECT_FALSE(parse_model_config(Json::parse(R"({"model_type": "nemotron_h", "vocab_size": 8,
      "hidden_size": 4, "hybrid_override_pattern": "M", "eos_token_id": 3})")));
}

TEST(LoadModelConfig, lets_generation_config_decide_the_eos_tokens_and_names_the_file) {
  const TemporaryFolder folder = TemporaryFolder::create().value();
  std::ofstream(folder.path("config.json")) << valid_config().dump();
  EXPECT_EQ(load_model_config(folder.path())->eos_token_ids, (std::vector<int64_t>{2, 11}));
  std::ofstream(folder.path("generation_config.json")) << R"({"eos_token_id": 7})";
  EXPECT_EQ(load_model_config(folder.path())->eos_token_ids, (std::vector<int64_t>{7}));
  std::ofstream(folder.path("config.json")) << R"({"model_type": "gpt2"})";
  EXPECT_THAT(load_model_config(folder.path()).error().message,
              HasSubstr(folder.path("config.json") + ": model_type is \"gpt2\""));
  EXPECT_EQ(load_model_config(folder.path("absent")).error().code, ErrorCode::kNotFound);
}

TEST(CheckShapes, names_the_field_that_a_device_is_too_narrow_for) {
  const auto config = parse_model_config(valid_config());
  ASSERT_TRUE(config);
  EXPECT_TRUE(check_shapes(*config, {}));
  EXPECT_TRUE(check_shapes(*config, {.head_dim = 16, .num_experts = 8, .top_k = 2}));
  const Status refused = check_shapes(*config, {.num_experts = 7});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(refused.error().message,
            "config.json: n_routed_experts is 8, and this device's kernels take at most 7");
  EXPECT_FALSE(check_shapes(*config, {.norm_group_size = 63}));
  // Layers that the model lacks ask for nothing.
  const auto dense = parse_with(R"({"hybrid_override_pattern": "M*--"})");
  ASSERT_TRUE(dense);
  EXPECT_TRUE(check_shapes(*dense, {.num_experts = 1}));
}

}  // namespace
}  // namespace nemoforge::model
