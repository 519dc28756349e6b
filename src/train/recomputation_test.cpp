#include "train/recomputation.h"

#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/rng.h"
#include "ops/device_choice.h"
#include "train/trainable_model.h"

namespace nemoforge::train {
namespace {

const std::string kTiny = NEMOFORGE_SOURCE_DIR "/tests/golden/tiny";

class RecomputationTest : public testing::Test {
 protected:
  RecomputationTest() {
    Rng rng(51);
    for (int i = 0; i < 256; ++i) {
      batch_.token_ids.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(config_.vocab_size))));
      batch_.targets.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(config_.vocab_size))));
    }
    batch_.cu_seqlens = {0, 100, 256};
  }

  TrainableModel make(bool is_full, double dropout = 0) {
    auto weights = model::Weights::load(kTiny, config_, DType::kF32, *backend_);
    if (is_full) return TrainableModel::full(config_, std::move(*weights), *backend_).value();
    options_.rank = 4;
    options_.dropout = dropout;
    return TrainableModel::lora(config_, std::move(*weights), options_, *backend_).value();
  }

  // Twice: the second pass has its memory in one piece.
  std::vector<float> gradients(TrainableModel& model) {
    std::vector<float> all;
    for (int pass = 0; pass < 2; ++pass) {
      all.clear();
      model.zero_gradients();
      EXPECT_TRUE(model.accumulate_gradients(batch_, 1));
      for (const Parameter& parameter : model.parameters().parameters) {
        const auto* grad = parameter.grad.data<float>();
        all.insert(all.end(), grad, grad + parameter.grad.numel());
      }
    }
    return all;
  }

  model::ModelConfig config_ = model::load_model_config(kTiny).value();
  std::unique_ptr<ops::Backend> backend_ = ops::make_backend(ops::DeviceChoice::kCpu).value();
  LoraOptions options_;
  TrainBatch batch_;
};

TEST_F(RecomputationTest, gradients_have_the_same_bits_whatever_is_kept) {
  for (const double dropout : {-1.0, 0.0, 0.2}) {  // below 0: full training
    TrainableModel model = make(dropout < 0, dropout);
    const std::vector<float> expected = gradients(model);
    for (const char* kinds : {"none", "mamba", "attention", "moe", "mlp"}) {
      model.recomputation() = parse_recomputation({kinds}).value();
      const std::vector<float> actual = gradients(model);
      ASSERT_EQ(actual.size(), expected.size());
      EXPECT_EQ(std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(float)), 0) << kinds;
    }
  }
}

// Keeping a kind costs what the plan says, but for the alignment of the tensors.
TEST_F(RecomputationTest, the_plan_is_what_it_costs) {
  using enum model::LayerKind;
  for (const double dropout : {0.0, 0.2}) {
    for (const model::LayerKind kind : {kMamba, kMoe, kAttention, kMlp}) {
      if (!config_.has_layer(kind)) continue;
      TrainableModel none_kept = make(false, dropout);
      (void)gradients(none_kept);
      TrainableModel kept = make(false, dropout);
      Recomputation& recomputation = kept.recomputation();
      recomputation.mamba = kind != kMamba;
      recomputation.moe = kind != kMoe;
      recomputation.attention = kind != kAttention;
      recomputation.mlp = kind != kMlp;
      (void)gradients(kept);
      const int64_t planned =
          batch_.num_rows() * config_.num_layers(kind) * activation_bytes_per_row(config_, kind, &options_);
      const int64_t measured = kept.workspace_bytes() - none_kept.workspace_bytes();
      // Where the kind's own layer sets the peak, one layer's activations were there before as well.
      const int64_t one_layer = planned / config_.num_layers(kind);
      EXPECT_LE(measured, planned + planned / 20) << layer_kind_name(kind);
      EXPECT_GE(measured, planned - one_layer - planned / 20) << layer_kind_name(kind);
    }
  }
}

TEST_F(RecomputationTest, an_unknown_kind_is_refused) {
  const auto parsed = parse_recomputation({"mamba", "all"});
  ASSERT_FALSE(parsed.has_value());
  EXPECT_NE(parsed.error().message.find("'all'"), std::string::npos);
  EXPECT_FALSE(parse_recomputation({"none"}).value().runs_again(model::LayerKind::kMoe));
  EXPECT_TRUE(parse_recomputation({"all"}).value().runs_again(model::LayerKind::kMlp));
}

}  // namespace
}  // namespace nemoforge::train
