#include "train/initial_weights.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/temporary_folder.h"
#include "model/checkpoint_test_support.h"
#include "model/model_test_support.h"
#include "train/trainable_model.h"

namespace nemoforge::train {
namespace {

double mean(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum / static_cast<double>(values.size()) - mean(values) * mean(values));
}

class InitialWeights : public testing::Test {
 protected:
  std::vector<float> draw(const std::string& name, const Shape& shape) {
    Rng rng(17);
    std::vector<float> values(static_cast<size_t>(shape.numel()));
    draw_initial_weight(name, shape, config_, initialisation_, rng, values);
    return values;
  }
  Result<Initialisation> load(const std::string& config) {
    model::write_text(folder_.path("config.json"), config);
    return load_initialisation(folder_.path());
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  model::ModelConfig config_ = model::load_model_config(model::golden_folder("tiny")).value();
  Initialisation initialisation_;
};

TEST_F(InitialWeights, matrices_are_normal_with_the_range_of_the_config) {
  initialisation_.initializer_range = 0.05;
  for (const char* name : {"backbone.embeddings.weight", "backbone.layers.0.mixer.in_proj.weight",
                           "backbone.layers.1.mixer.o_proj.weight", "backbone.layers.0.mixer.conv1d.weight",
                           "backbone.layers.2.mixer.gate.weight", "lm_head.weight"}) {
    const std::vector<float> values = draw(name, {200, 100});
    EXPECT_NEAR(deviation(values), 0.05, 0.001) << name;
    EXPECT_NEAR(mean(values), 0, 0.002) << name;
    EXPECT_GT(std::ranges::max(values), 0.15) << name;  // three deviations: not uniform
  }
}

TEST_F(InitialWeights, small_tensors_are_those_of_the_recurrence_and_the_norms) {
  EXPECT_EQ(draw("backbone.layers.0.mixer.D", {3}), (std::vector<float>{1, 1, 1}));
  EXPECT_EQ(draw("backbone.layers.0.mixer.norm.weight", {2}), (std::vector<float>{1, 1}));
  EXPECT_EQ(draw("backbone.norm_f.weight", {2}), (std::vector<float>{1, 1}));
  EXPECT_EQ(draw("backbone.layers.0.mixer.conv1d.bias", {2}), (std::vector<float>{0, 0}));
  EXPECT_EQ(draw("backbone.layers.1.mixer.gate.e_score_correction_bias", {2}), (std::vector<float>{0, 0}));
  const std::vector<float> a_log = draw("backbone.layers.0.mixer.A_log", {3});
  for (size_t head = 0; head < 3; ++head)
    EXPECT_FLOAT_EQ(std::exp(a_log[head]), static_cast<float>(head + 1));
}

TEST_F(InitialWeights, time_steps_are_spread_evenly_over_the_decades_down_to_the_floor) {
  initialisation_.time_step_min = 0.0001;
  initialisation_.time_step_max = 1;
  initialisation_.time_step_floor = 0.01;
  std::vector<float> logs = draw("backbone.layers.0.mixer.dt_bias", {20000});
  for (float& value : logs) value = static_cast<float>(std::log10(std::log1p(std::exp(double{value}))));
  EXPECT_NEAR(std::ranges::min(logs), -2, 1e-4);
  EXPECT_NEAR(std::ranges::max(logs), 0, 1e-2);
  const auto share = [&](double below) {
    return static_cast<double>(std::ranges::count_if(logs, [&](float log) { return double{log} < below; })) /
           20000;
  };
  EXPECT_NEAR(share(-1.999), 0.5, 0.02);  // two of four decades are below the floor
  EXPECT_NEAR(share(-1), 0.75, 0.02);
}

TEST_F(InitialWeights, out_proj_shrinks_with_the_depth_where_it_is_rescaled) {
  const double bound = 1 / std::sqrt(100.0 * static_cast<double>(config_.num_hidden_layers()));
  std::vector<float> values = draw("backbone.layers.0.mixer.out_proj.weight", {200, 100});
  EXPECT_NEAR(std::ranges::max(values), bound, 0.01 * bound);
  EXPECT_NEAR(deviation(values), bound / std::sqrt(3.0), 0.02 * bound);
  initialisation_.rescale_prenorm_residual = false;
  values = draw("backbone.layers.0.mixer.out_proj.weight", {200, 100});
  EXPECT_NEAR(deviation(values), initialisation_.initializer_range, 0.001);
}

TEST_F(InitialWeights, reads_the_config_and_refuses_what_is_no_range) {
  const auto read =
      load(R"({"initializer_range": 0.1, "rescale_prenorm_residual": false, "mamba_dt_min": 0.002,
                             "time_step_max": 0.2, "torch_dtype": "bfloat16", "time_step_limit": [0.0, Infinity]})");
  ASSERT_TRUE(read.has_value()) << read.error().to_string();
  EXPECT_EQ(read->initializer_range, 0.1);
  EXPECT_FALSE(read->rescale_prenorm_residual);
  EXPECT_EQ(read->time_step_min, 0.002);
  EXPECT_EQ(read->time_step_max, 0.2);
  EXPECT_EQ(read->time_step_floor, 1e-4);
  EXPECT_EQ(read->dtype, DType::kBF16);
  for (const char* config :
       {R"({"initializer_range": 0})", R"({"time_step_min": "a"})", R"({"time_step_min": 0.5})",
        R"({"rescale_prenorm_residual": 1})", R"({"dtype": "float8_e4m3fn"})"}) {
    const auto refused = load(config);
    ASSERT_FALSE(refused.has_value()) << config;
    EXPECT_NE(refused.error().message.find("config.json: "), std::string::npos) << refused.error().message;
  }
}

TEST_F(InitialWeights, of_a_model_depend_on_the_seed_alone) {
  const auto backend = model::backend_named("cpu");
  const auto values = [&](uint64_t seed) {
    auto made = TrainableModel::initial(config_, initialisation_, seed, *backend);
    EXPECT_TRUE(made.has_value());
    std::vector<float> all;
    for (const Parameter& parameter : made->parameters().parameters) {
      const auto* first = parameter.value.data<float>();
      all.insert(all.end(), first, first + parameter.value.numel());
    }
    for (const FrozenTensor& tensor : made->frozen()) {
      for (int64_t i = 0; i < tensor.value.numel(); ++i)
        EXPECT_EQ(tensor.value.data<float>()[i], 0) << tensor.name;
    }
    return all;
  };
  const std::vector<float> first = values(1);
  EXPECT_EQ(first, values(1));
  EXPECT_NE(first, values(2));
}

}  // namespace
}  // namespace nemoforge::train
