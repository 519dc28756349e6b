#include "train/lora_dropout.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/rng.h"
#include "model/config.h"
#include "model/model_test_support.h"
#include "ops/device_choice.h"
#include "train/trainable_model.h"

namespace nemoforge::train {
namespace {

const std::string kTiny = model::golden_folder("tiny");

std::span<float> values(const TensorView& view) {
  return {view.data<float>(), static_cast<size_t>(view.numel())};
}

class LoraDropoutTest : public testing::Test {
 protected:
  LoraDropoutTest() {
    Rng rng(21);
    for (int i = 0; i < 24; ++i) {
      batch_.token_ids.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(config_.vocab_size))));
      batch_.targets.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(config_.vocab_size))));
    }
    batch_.cu_seqlens = {0, 10, 24};
  }

  // An adapter whose B is not zero any more.
  TrainableModel model(double dropout, uint64_t seed = 1) {
    auto weights = model::Weights::load(kTiny, config_, DType::kF32, *backend_);
    LoraOptions options;
    options.rank = 4;
    options.alpha = 8;
    options.dropout = dropout;
    options.seed = seed;
    TrainableModel result = TrainableModel::lora(config_, std::move(*weights), options, *backend_).value();
    Rng rng(22);
    for (const Parameter& parameter : result.parameters().parameters) {
      for (float& value : values(parameter.value)) value = static_cast<float>(0.1 * rng.normal());
    }
    return result;
  }

  model::ModelConfig config_ = model::load_model_config(kTiny).value();
  std::unique_ptr<ops::Backend> backend_ = ops::make_backend(ops::DeviceChoice::kReference).value();
  TrainBatch batch_;
};

TEST_F(LoraDropoutTest, gradients_agree_with_finite_differences_under_the_same_mask) {
  TrainableModel model = this->model(0.3);
  model.zero_gradients();
  ASSERT_TRUE(model.accumulate_gradients(batch_, 1));
  // Along the gradient, where a small step has the largest effect: longer ones change the choice of experts.
  std::vector<std::vector<float>> direction;
  double slope = 0;
  for (const Parameter& parameter : model.parameters().parameters) {
    for (const float grad : values(parameter.grad)) {
      slope += static_cast<double>(grad) * static_cast<double>(grad);
    }
  }
  slope = std::sqrt(slope);
  for (const Parameter& parameter : model.parameters().parameters) {
    direction.emplace_back();
    for (const float grad : values(parameter.grad)) {
      direction.back().push_back(grad / static_cast<float>(slope));
    }
  }
  const auto loss_at = [&](float offset) {
    for (size_t i = 0; i < direction.size(); ++i) {
      const auto value = values(model.parameters().parameters[i].value);
      for (size_t j = 0; j < value.size(); ++j) value[j] += offset * direction[i][j];
    }
    const double loss = model.accumulate_gradients(batch_, 0).value().loss;
    for (size_t i = 0; i < direction.size(); ++i) {
      const auto value = values(model.parameters().parameters[i].value);
      for (size_t j = 0; j < value.size(); ++j) value[j] -= offset * direction[i][j];
    }
    return loss;
  };
  constexpr float kStep = 1.0f / 1024;
  const double quotient = (loss_at(kStep) - loss_at(-kStep)) / (2 * static_cast<double>(kStep));
  EXPECT_NEAR(quotient, slope, 5e-3 * slope);
  EXPECT_GT(slope, 0.1);
}

TEST_F(LoraDropoutTest, a_pass_repeats_its_masks_and_another_draws_others) {
  TrainableModel model = this->model(0.3);
  const double first = model.accumulate_gradients(batch_, 1).value().loss;
  EXPECT_EQ(model.accumulate_gradients(batch_, 1).value().loss, first);
  TrainBatch next = batch_;
  next.pass_idx = 1;
  EXPECT_NE(model.accumulate_gradients(next, 1).value().loss, first);
  EXPECT_NE(this->model(0.3, 2).accumulate_gradients(batch_, 1).value().loss, first);
}

TEST_F(LoraDropoutTest, evaluation_drops_nothing) {
  TrainableModel with = this->model(0.3);
  TrainableModel without = this->model(0);
  EXPECT_EQ(with.evaluate(batch_).value().loss, without.evaluate(batch_).value().loss);
  EXPECT_NE(with.accumulate_gradients(batch_, 1).value().loss, with.evaluate(batch_).value().loss);
}

TEST_F(LoraDropoutTest, a_share_outside_of_its_range_is_refused) {
  for (const double dropout : {-0.1, 1.0, std::nan("")}) {
    auto weights = model::Weights::load(kTiny, config_, DType::kF32, *backend_);
    LoraOptions options;
    options.dropout = dropout;
    const auto made = TrainableModel::lora(config_, std::move(*weights), options, *backend_);
    ASSERT_FALSE(made.has_value());
    EXPECT_NE(made.error().message.find("dropout"), std::string::npos) << made.error().message;
  }
}

}  // namespace
}  // namespace nemoforge::train
