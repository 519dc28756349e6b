#include "train/adapter_folder.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "base/temporary_folder.h"
#include "io/json.h"
#include "io/safetensors_folder.h"
#include "model/config.h"
#include "model/convert.h"
#include "model/lora_adapter.h"
#include "model/model_test_support.h"
#include "ops/device_choice.h"
#include "train/merge.h"

namespace nemoforge::train {
namespace {

namespace fs = std::filesystem;

const std::string kTiny = model::golden_folder("tiny");

// Parameters as TrainableModel::lora makes them, for some linear layers, with random values.
class AdapterFolder : public testing::Test {
 protected:
  AdapterFolder() {
    options_.rank = 3;
    options_.alpha = 6;
    fs::create_directories(folder_);
    for (int64_t layer = 0; layer < config_.num_hidden_layers(); ++layer) {
      switch (config_.layers[static_cast<size_t>(layer)]) {
        case model::LayerKind::kMamba:
          add(layer, "in_proj", config_.hidden_size, config_.mamba_projection_size());
          break;
        case model::LayerKind::kAttention:
          add(layer, "q_proj", config_.hidden_size, config_.q_size());
          break;
        case model::LayerKind::kMoe:
          add_experts(layer);
          break;
        case model::LayerKind::kMlp:
          break;
      }
    }
  }

  void add_experts(int64_t layer) {
    const int64_t expert_size = config_.moe_intermediate_size;
    for (int64_t expert = 0; expert < config_.n_routed_experts; ++expert) {
      const std::string module = "experts." + std::to_string(expert);
      add(layer, module + ".up_proj", config_.hidden_size, expert_size);
      add(layer, module + ".down_proj", expert_size, config_.hidden_size);
    }
    add(layer, "shared_experts.up_proj", config_.hidden_size, config_.moe_shared_expert_intermediate_size);
  }

  void add(int64_t layer, const std::string& module, int64_t in, int64_t out) {
    const std::string name = "base_model.model.backbone.layers." + std::to_string(layer) + ".mixer." + module;
    add_matrix(name + ".lora_A.weight", {options_.rank, in});
    add_matrix(name + ".lora_B.weight", {out, options_.rank});
  }

  void add_matrix(const std::string& name, const Shape& shape) {
    tensors_.push_back(make_host_tensor(DType::kF32, shape));
    Parameter parameter;
    parameter.name = name;
    parameter.value = tensors_.back().view();
    for (int64_t i = 0; i < shape.numel(); ++i) {
      parameter.value.data<float>()[i] = static_cast<float>(rng_.normal());
    }
    set_.parameters.push_back(parameter);
  }

  model::LoraAdapter write_and_load(AdapterLayout layout) {
    const auto written = write_adapter(folder_, set_, config_, options_, layout, "base");
    EXPECT_TRUE(written.has_value()) << written.error().to_string();
    auto adapter = model::LoraAdapter::load(folder_, config_, *backend_);
    EXPECT_TRUE(adapter.has_value()) << adapter.error().to_string();
    return std::move(*adapter);
  }

  [[nodiscard]] std::vector<float> values(const std::string& name) const {
    for (const Parameter& parameter : set_.parameters) {
      if (parameter.name == name) return to_vector(parameter.value);
    }
    ADD_FAILURE() << name;
    return {};
  }

  static std::vector<float> to_vector(const ConstTensorView& tensor) {
    std::vector<float> result(static_cast<size_t>(tensor.numel()));
    model::convert_elements(tensor, TensorView(result.data(), tensor.shape()));
    return result;
  }

  // The first mixture of experts.
  [[nodiscard]] int64_t moe_layer() const {
    const auto found = std::find(config_.layers.begin(), config_.layers.end(), model::LayerKind::kMoe);
    return found - config_.layers.begin();
  }

  TemporaryFolder temporary_ = TemporaryFolder::create().value();
  std::string folder_ = temporary_.path("adapter");
  model::ModelConfig config_ = model::load_model_config(kTiny).value();
  std::unique_ptr<ops::Backend> backend_ = ops::make_backend(ops::DeviceChoice::kCpu).value();
  LoraOptions options_;
  Rng rng_{5};
  std::vector<Tensor> tensors_;
  ParameterSet set_;
};

TEST_F(AdapterFolder, both_layouts_read_back_bit_for_bit) {
  for (const AdapterLayout layout : {AdapterLayout::kPerExpert, AdapterLayout::kPeft3d}) {
    const model::LoraAdapter adapter = write_and_load(layout);
    for (const bool is_up : {true, false}) {
      const auto& experts = adapter.find_experts(
          moe_layer(), is_up ? model::LoraTarget::kExpertUpProj : model::LoraTarget::kExpertDownProj);
      ASSERT_EQ(static_cast<int64_t>(experts.size()), config_.n_routed_experts);
      for (size_t expert = 0; expert < experts.size(); ++expert) {
        const std::string name = "base_model.model.backbone.layers." + std::to_string(moe_layer()) +
                                 ".mixer.experts." + std::to_string(expert) +
                                 (is_up ? ".up_proj" : ".down_proj");
        EXPECT_EQ(to_vector(experts[expert].a), values(name + ".lora_A.weight")) << name;
        EXPECT_EQ(to_vector(experts[expert].b), values(name + ".lora_B.weight")) << name;
        EXPECT_EQ(experts[expert].scale, 2.0f);
      }
    }
  }
}

TEST_F(AdapterFolder, targets_name_no_layer_that_does_not_train) {
  options_.targets = {
      .attention = false, .mamba = false, .shared_experts = false, .experts = true, .mlp = false};
  ASSERT_TRUE(write_adapter(folder_, set_, config_, options_, AdapterLayout::kPerExpert, "base"));
  const auto json = io::read_json_file(folder_ + "/adapter_config.json");
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ((*json)["target_modules"], io::Json({"up_proj", "down_proj"}));
  EXPECT_EQ((*json)["exclude_modules"], io::Json({"shared_experts.up_proj", "shared_experts.down_proj",
                                                  "mixer.up_proj", "mixer.down_proj"}));
}

TEST_F(AdapterFolder, dropout_is_named_where_peft_can_have_it) {
  options_.dropout = 0.25;
  for (const AdapterLayout layout : {AdapterLayout::kPerExpert, AdapterLayout::kPeft3d}) {
    ASSERT_TRUE(write_adapter(folder_, set_, config_, options_, layout, "base"));
    const auto json = io::read_json_file(folder_ + "/adapter_config.json");
    ASSERT_TRUE(json.has_value());
    EXPECT_EQ((*json)["lora_dropout"], layout == AdapterLayout::kPerExpert ? 0.25 : 0.0);
  }
}

TEST_F(AdapterFolder, merging_adds_the_product_and_touches_nothing_else) {
  const model::LoraAdapter adapter = write_and_load(AdapterLayout::kPerExpert);
  const std::string merged_folder = temporary_.path("merged");
  const auto num_merged = merge_adapter(kTiny, folder_, merged_folder);
  ASSERT_TRUE(num_merged.has_value()) << num_merged.error().to_string();
  EXPECT_EQ(*num_merged, static_cast<int64_t>(set_.parameters.size()) / 2);

  const auto base = io::SafetensorsFolder::open(kTiny).value();
  const auto merged = io::SafetensorsFolder::open(merged_folder).value();
  ASSERT_EQ(base.tensors().size(), merged.tensors().size());
  int64_t num_changed = 0;
  for (const auto& [name, entry] : base.tensors()) {
    const auto found = merged.tensors().find(name);
    ASSERT_NE(found, merged.tensors().end()) << name;
    ASSERT_EQ(found->second.tensor.dtype(), entry.tensor.dtype());
    if (to_vector(entry.tensor) != to_vector(found->second.tensor)) ++num_changed;
  }
  EXPECT_GT(num_changed, 0);
  EXPECT_LE(num_changed, *num_merged);

  const std::string module = "layers." + std::to_string(moe_layer()) + ".mixer.experts.1.up_proj";
  const std::string name = "backbone." + module + ".weight";
  ASSERT_TRUE(base.tensors().contains(name)) << "the golden checkpoint has the hub's names";
  const std::vector<float> before = to_vector(base.tensors().at(name).tensor);
  const std::vector<float> after = to_vector(merged.tensors().at(name).tensor);
  const std::vector<float> a = values("base_model.model.backbone." + module + ".lora_A.weight");
  const std::vector<float> b = values("base_model.model.backbone." + module + ".lora_B.weight");
  const auto in = static_cast<size_t>(config_.hidden_size);
  for (size_t i = 0; i < before.size(); ++i) {
    double delta = 0;
    for (size_t r = 0; r < 3; ++r) delta += double{b[(i / in) * 3 + r]} * double{a[r * in + i % in]};
    EXPECT_NEAR(after[i], before[i] + 2 * delta, 1e-5 * (1 + std::abs(after[i])));
  }
}

TEST_F(AdapterFolder, merging_onto_the_checkpoint_itself_is_refused) {
  const model::LoraAdapter adapter = write_and_load(AdapterLayout::kPerExpert);
  const auto merged = merge_adapter(kTiny, folder_, kTiny);
  ASSERT_FALSE(merged.has_value());
  EXPECT_EQ(merged.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace nemoforge::train
