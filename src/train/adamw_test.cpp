#include "train/adamw.h"

#include <cmath>
#include <cstdlib>

#include <gtest/gtest.h>

#include "base/rng.h"
#include "ops/device_choice.h"
#include "train/schedule.h"

namespace nemoforge::train {
namespace {

struct OneParameter {
  explicit OneParameter(std::vector<float> initial, bool weight_decay)
      : value(std::move(initial)), grad(value.size(), 0.0f) {
    Parameter parameter;
    const Shape shape{static_cast<int64_t>(value.size())};
    parameter.value = TensorView(value.data(), shape);
    parameter.grad = TensorView(grad.data(), shape);
    parameter.weight_decay = weight_decay;
    set.parameters.push_back(parameter);
  }
  std::vector<float> value;
  std::vector<float> grad;
  ParameterSet set;
};

// The formula of the header in f64.
double expected_after(int num_steps, double p, const std::vector<double>& grads, double rate, double decay,
                      const AdamWOptions& options) {
  double m = 0;
  double v = 0;
  for (int t = 1; t <= num_steps; ++t) {
    const double grad = grads[static_cast<size_t>(t - 1)];
    p -= rate * decay * p;
    m = options.beta1 * m + (1 - options.beta1) * grad;
    v = options.beta2 * v + (1 - options.beta2) * grad * grad;
    const double corrected_m = m / (1 - std::pow(options.beta1, t));
    const double corrected_v = v / (1 - std::pow(options.beta2, t));
    p -= rate * corrected_m / (std::sqrt(corrected_v) + options.epsilon);
  }
  return p;
}

TEST(AdamW, follows_its_formula) {
  for (const bool weight_decay : {false, true}) {
    OneParameter parameter({0.5f, -2.0f, 3.0f}, weight_decay);
    const AdamWOptions options{.weight_decay = 0.1};
    AdamW optimizer(parameter.set, options);
    const std::vector<double> grads = {0.3, -0.7, 0.01, 2.0, -0.5};
    for (int step = 0; step < 5; ++step) {
      // Twice the gradient, halved by the scale.
      for (float& grad : parameter.grad) grad = static_cast<float>(2 * grads[static_cast<size_t>(step)]);
      optimizer.update(parameter.set, step, 0.01, 0.5);
    }
    const std::vector<double> initial = {0.5, -2.0, 3.0};
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(parameter.value[i],
                  expected_after(5, initial[i], grads, 0.01, weight_decay ? 0.1 : 0, options), 1e-6);
    }
  }
}

// Two parameters, one of them too small for eight bits, towards random optima.
double distance_after(MomentFormat format, int num_steps, int64_t& moment_bytes) {
  Rng rng(41);
  OneParameter large(std::vector<float>(5000, 0.0f), false);
  OneParameter small(std::vector<float>(100, 0.0f), false);
  large.set.parameters.push_back(small.set.parameters[0]);
  std::vector<float> optimum(5100);
  for (float& value : optimum) value = static_cast<float>(rng.normal());
  AdamW optimizer(large.set, {.moments = format});
  moment_bytes = AdamW::moment_bytes(large.set, format);
  const auto gap = [&](size_t i) { return (i < 5000 ? large.value[i] : small.value[i - 5000]) - optimum[i]; };
  for (int step = 0; step < num_steps; ++step) {
    for (size_t i = 0; i < optimum.size(); ++i) {
      // Scales differ by element, and gradients are noisy.
      const auto scale = static_cast<float>(i % 97 + 1);
      const float grad = scale * (gap(i) + 0.1f * static_cast<float>(rng.normal()));
      (i < 5000 ? large.grad[i] : small.grad[i - 5000]) = grad;
    }
    optimizer.update(large.set, step, 0.02, 1);
  }
  double sum = 0;
  for (size_t i = 0; i < optimum.size(); ++i)
    sum += static_cast<double>(gap(i)) * static_cast<double>(gap(i));
  return std::sqrt(sum / 5100);
}

TEST(AdamW, eight_bit_moments_get_as_far_in_a_quarter_of_the_memory) {
  int64_t f32_bytes = 0;
  int64_t block_bytes = 0;
  const double f32 = distance_after(MomentFormat::kF32, 200, f32_bytes);
  const double block = distance_after(MomentFormat::kBlock8, 200, block_bytes);
  EXPECT_LT(f32, 0.1);
  EXPECT_NEAR(block, f32, 0.05 * f32);
  EXPECT_EQ(f32_bytes, 8 * 5100);
  EXPECT_EQ(block_bytes, 2 * 5000 + 2 * 4 * 20 + 8 * 100);
}

Tensor placed(ops::Backend& backend, const std::vector<float>& values) {
  const Shape shape{static_cast<int64_t>(values.size())};
  const int64_t num_bytes = shape.numel() * dtype_bytes(DType::kF32);
  Tensor tensor(backend.allocate(num_bytes).value(), DType::kF32, shape);
  backend.upload(values.data(), tensor.view().raw(), num_bytes);
  return tensor;
}

// Steps with random gradients, on a device (NEMOFORGE_BACKEND=cuda) and in host memory.
TEST(AdamW, a_device_updates_as_the_host_does) {
  const char* wanted = std::getenv("NEMOFORGE_BACKEND");
  const auto backend =
      ops::make_backend(ops::parse_device_choice(wanted == nullptr ? "cpu" : wanted).value()).value();
  for (const MomentFormat format : {MomentFormat::kF32, MomentFormat::kBlock8}) {
    Rng rng(43);
    std::vector<float> initial(40001);
    for (float& value : initial) value = static_cast<float>(rng.normal());
    OneParameter host(initial, true);
    Tensor value = placed(*backend, initial);
    Tensor grad = placed(*backend, host.grad);
    ParameterSet there = host.set;
    there.parameters[0].value = value.view();
    there.parameters[0].grad = grad.view();
    AdamW on_host(host.set, {.moments = format});
    AdamW on_device = AdamW::on(*backend, there, {.moments = format}).value();
    const int64_t num_bytes = value.view().numel() * dtype_bytes(DType::kF32);
    for (int step = 0; step < 5; ++step) {
      for (float& element : host.grad) element = static_cast<float>(rng.normal());
      backend->upload(host.grad.data(), grad.view().raw(), num_bytes);
      EXPECT_NEAR(on_device.gradient_norm(there), on_host.gradient_norm(host.set), 1e-9);
      on_host.update(host.set, step, 0.01, 0.5);
      on_device.update(there, step, 0.01, 0.5);
    }
    std::vector<float> values(initial.size());
    backend->synchronize();
    backend->download(value.view().raw(), values.data(), num_bytes);
    // A code that rounds the other way moves an element by a few percent of a step.
    const float tolerance = format == MomentFormat::kF32 ? 1e-6f : 5e-3f;
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], host.value[i], tolerance) << i;
  }
}

TEST(AdamW, gradient_norm_is_that_of_all_parameters_together) {
  OneParameter parameter({0, 0}, false);
  parameter.grad = {3, 4};
  EXPECT_DOUBLE_EQ(AdamW(parameter.set, {}).gradient_norm(parameter.set), 5);
}

TEST(Schedule, warms_up_and_decays) {
  const Schedule cosine{.learning_rate = 1, .decay = Decay::kCosine, .num_warmup_steps = 3, .num_steps = 13};
  EXPECT_DOUBLE_EQ(cosine.rate(0), 0.25);
  EXPECT_DOUBLE_EQ(cosine.rate(2), 0.75);
  EXPECT_DOUBLE_EQ(cosine.rate(3), 1);
  EXPECT_NEAR(cosine.rate(8), 0.5, 1e-12);
  EXPECT_NEAR(cosine.rate(13), 0, 1e-12);
  const Schedule linear{.learning_rate = 2, .decay = Decay::kLinear, .num_steps = 10, .final_fraction = 0.5};
  EXPECT_DOUBLE_EQ(linear.rate(0), 2);
  EXPECT_DOUBLE_EQ(linear.rate(5), 1.5);
  const Schedule constant{.learning_rate = 3, .decay = Decay::kConstant, .num_steps = 10};
  EXPECT_DOUBLE_EQ(constant.rate(9), 3);
}

}  // namespace
}  // namespace nemoforge::train
