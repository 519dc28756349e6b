#include "model/lora_adapter.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary_folder.h"
#include "model/checkpoint_test_support.h"
#include "model/model_test_support.h"

namespace nemoforge::model {
namespace {

using testing::HasSubstr;

constexpr std::string_view kAdapterConfig =
    R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "target_parameters": null})";

class LoraAdapterTest : public testing::Test {
 protected:
  LoraAdapterTest() { write_text(folder_.path("adapter_config.json"), kAdapterConfig); }

  // A pair of rank 2 on a module of the tiny model.
  static void add_pair(TensorSet& tensors, const std::string& module, int64_t in, int64_t out,
                       int64_t rank = 2) {
    tensors.set("base_model.model." + module + ".lora_A.weight", {rank, in});
    tensors.set("base_model.model." + module + ".lora_B.weight", {out, rank});
  }
  [[nodiscard]] Result<LoraAdapter> load(const TensorSet& tensors) {
    tensors.write(folder_.path("adapter_model.safetensors"));
    return LoraAdapter::load(folder_.path(), config_, *backend_);
  }
  void expect_refused(const TensorSet& tensors, const std::string& message) {
    const auto adapter = load(tensors);
    ASSERT_FALSE(adapter);
    EXPECT_THAT(adapter.error().message, HasSubstr(message));
    EXPECT_THAT(adapter.error().message, HasSubstr(folder_.path()));
  }
  void expect_config_refused(const std::string& config, const std::string& message) {
    write_text(folder_.path("adapter_config.json"), config);
    TensorSet tensors;
    add_pair(tensors, "backbone.layers.2.mixer.q_proj", 8, 8);
    expect_refused(tensors, "adapter_config.json: " + message);
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  ModelConfig config_ = parse_model_config(kTinyConfig).value();
  std::unique_ptr<ops::Backend> backend_ = backend_named("cpu");
};

TEST_F(LoraAdapterTest, counts_what_it_matched_by_class_of_module) {
  TensorSet tensors;
  add_pair(tensors, "backbone.layers.0.mixer.in_proj", 8, 26);
  add_pair(tensors, "model.layers.2.mixer.q_proj", 8, 8);
  add_pair(tensors, "backbone.layers.1.mixer.experts.1.down_proj", 6, 8);
  add_pair(tensors, "backbone.layers.1.mixer.shared_experts.up_proj", 8, 5);
  add_pair(tensors, "backbone.layers.3.mixer.up_proj", 8, 7);
  const auto adapter = load(tensors);
  ASSERT_TRUE(adapter) << adapter.error().to_string();
  EXPECT_EQ(adapter->matched(), (std::map<std::string, int64_t>{{"mixer.in_proj", 1},
                                                                {"mixer.q_proj", 1},
                                                                {"mixer.experts.down_proj", 1},
                                                                {"mixer.shared_experts.up_proj", 1},
                                                                {"mixer.up_proj", 1}}));
  EXPECT_NE(adapter->find(2, LoraTarget::kQProj), nullptr);
  EXPECT_EQ(adapter->find(2, LoraTarget::kKProj), nullptr);
  EXPECT_EQ(adapter->find(2, LoraTarget::kQProj)->scale, 2.0f);
  EXPECT_FALSE(adapter->find_experts(1, LoraTarget::kExpertDownProj)[0].a);
  EXPECT_TRUE(static_cast<bool>(adapter->find_experts(1, LoraTarget::kExpertDownProj)[1].a));
  EXPECT_TRUE(adapter->find_experts(1, LoraTarget::kExpertUpProj).empty());
}

TEST_F(LoraAdapterTest, splits_the_layout_of_target_parameters_by_expert) {
  write_text(
      folder_.path("adapter_config.json"),
      R"({"peft_type": "LORA", "r": 3, "lora_alpha": 3, "target_parameters": ["mixer.experts.up_proj"]})");
  TensorSet tensors;
  add_pair(tensors, "model.layers.1.mixer.experts", 8, 6, 2 * 3);
  const auto adapter = load(tensors);
  ASSERT_TRUE(adapter) << adapter.error().to_string();
  const auto file = io::SafetensorsFile::open(folder_.path("adapter_model.safetensors"));
  const float* a = file->find("base_model.model.model.layers.1.mixer.experts.lora_A.weight")->data<float>();
  const float* b = file->find("base_model.model.model.layers.1.mixer.experts.lora_B.weight")->data<float>();
  const auto& experts = adapter->find_experts(1, LoraTarget::kExpertUpProj);
  ASSERT_EQ(experts.size(), 2u);
  EXPECT_EQ(experts[1].a.shape(), (Shape{3, 8}));
  EXPECT_EQ(experts[1].a.data<float>()[0], a[3 * 8]);
  EXPECT_EQ(experts[1].b.shape(), (Shape{6, 3}));
  EXPECT_EQ(experts[1].b.data<float>()[5 * 3 + 2], b[5 * 6 + 2 * 2 + 1]);  // [out, rank, expert]
  EXPECT_EQ(adapter->matched().at("mixer.experts.up_proj"), 2);
}

TEST_F(LoraAdapterTest, refuses_tensors_that_match_nothing) {
  const char* const modules[] = {"lm_head", "backbone.layers.1.mixer.gate", "backbone.layers.0.mixer.conv1d",
                                 "backbone.embeddings", "backbone.layers.x.mixer.q_proj"};
  for (const char* module : modules) {
    TensorSet tensors;
    add_pair(tensors, module, 8, 8);
    expect_refused(tensors, std::string("tensor \"base_model.model.") + module +
                                ".lora_A.weight\" matches no linear layer that nemoforge can adapt");
  }
  TensorSet tensors;
  tensors.set("base_model.model.backbone.layers.2.mixer.q_proj.lora_magnitude_vector", {8});
  expect_refused(tensors, "lora_magnitude_vector\" matches no linear layer");
}

TEST_F(LoraAdapterTest, refuses_adapters_of_another_model) {
  TensorSet other_kind;
  add_pair(other_kind, "backbone.layers.0.mixer.q_proj", 8, 8);
  expect_refused(other_kind, "is for a layer of kind '*', but layer 0 of the model is of kind 'M'");
  TensorSet deeper;
  add_pair(deeper, "backbone.layers.4.mixer.q_proj", 8, 8);
  expect_refused(deeper, "is for layer 4, the model has 4 layers");
  TensorSet wider;
  add_pair(wider, "backbone.layers.2.mixer.q_proj", 16, 8);
  expect_refused(wider,
                 "q_proj.lora_A.weight\" has shape [2, 16], the model and rank 2 of adapter_config.json ask "
                 "for [2, 8]");
  TensorSet rank;
  add_pair(rank, "backbone.layers.2.mixer.q_proj", 8, 8, 3);
  expect_refused(rank, "has shape [3, 8]");
  TensorSet experts;
  add_pair(experts, "backbone.layers.1.mixer.experts.2.up_proj", 8, 6);
  expect_refused(experts, "is for an expert that the model lacks: it has 2");
}

TEST_F(LoraAdapterTest, refuses_halves_duplicates_and_doubts) {
  TensorSet half;
  half.set("base_model.model.backbone.layers.2.mixer.q_proj.lora_A.weight", {2, 8});
  expect_refused(half, "q_proj.lora_A.weight\" has no lora_B beside it");
  TensorSet twice;
  add_pair(twice, "backbone.layers.2.mixer.q_proj", 8, 8);
  add_pair(twice, "model.layers.2.mixer.q_proj", 8, 8);
  expect_refused(twice, "adapts a layer that another tensor of the file adapts too");
  TensorSet doubt;
  add_pair(doubt, "model.layers.1.mixer.experts", 8, 6, 4);
  expect_refused(doubt, "target_parameters of adapter_config.json does not tell which projection");
  TensorSet integers;
  add_pair(integers, "backbone.layers.2.mixer.q_proj", 8, 8);
  integers.set("base_model.model.backbone.layers.2.mixer.q_proj.lora_A.weight", {2, 8}, DType::kI32);
  expect_refused(integers, "is I32 [2, 8], not a matrix of F32, BF16 or F16");
  expect_refused(TensorSet(), "holds no tensors");
}

TEST_F(LoraAdapterTest, refuses_options_that_change_the_mathematics) {
  expect_config_refused(R"({"peft_type": "IA3"})", "peft_type is \"IA3\"");
  expect_config_refused(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": true})",
                        "use_dora is true");
  expect_config_refused(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "all"})",
                        "bias is \"all\"");
  expect_config_refused(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "modules_to_save": ["lm_head"]})",
                        "modules_to_save is [\"lm_head\"]");
  expect_config_refused(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "init_lora_weights": "pissa"})",
                        "init_lora_weights is \"pissa\"");
  expect_config_refused(R"({"peft_type": "LORA", "lora_alpha": 4})", "r is null, not a positive integer");
  expect_config_refused(R"({"peft_type": "LORA", "r": 2})", "lora_alpha is null, not a positive number");
  expect_config_refused(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"q.*": 2}})",
                        "rank_pattern has the key \"q.*\": regular expressions are not implemented");
  expect_config_refused(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "alpha_pattern": {"q_proj": 0}})",
                        "alpha_pattern of \"q_proj\" is 0");
}

}  // namespace
}  // namespace nemoforge::model
