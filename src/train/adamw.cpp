#include "train/adamw.h"

#include <algorithm>
#include <cmath>

#include "base/integers.h"
#include "base/thread_pool.h"

namespace nemoforge::train {
namespace {

// Elements of one task: 64 KiB of each of the four arrays.
constexpr int64_t kChunk = 16384;

Tensor zeros_like(const TensorView& view) {
  Tensor tensor = make_host_tensor(DType::kF32, view.shape());
  std::fill_n(tensor.view().data<float>(), view.numel(), 0.0f);
  return tensor;
}

// The factors of one step.
struct StepFactors {
  float grad_scale;
  float decay;  // 1 - rate * weight_decay
  float beta1;
  float beta2;
  float step_size;      // rate / (1 - beta1^t)
  float inverse_sqrt2;  // 1 / sqrt(1 - beta2^t)
  float epsilon;
};

void update_elements(const StepFactors& f, int64_t count, float* p, const float* grad, float* m, float* v) {
  for (int64_t i = 0; i < count; ++i) {
    const float g = grad[i] * f.grad_scale;
    m[i] = f.beta1 * m[i] + (1.0f - f.beta1) * g;
    v[i] = f.beta2 * v[i] + (1.0f - f.beta2) * g * g;
    p[i] = f.decay * p[i] - f.step_size * m[i] / (std::sqrt(v[i]) * f.inverse_sqrt2 + f.epsilon);
  }
}

}  // namespace

AdamW::AdamW(const ParameterSet& set, const AdamWOptions& options) : options_(options) {
  for (const Parameter& parameter : set.parameters) {
    first_moments_.push_back(zeros_like(parameter.value));
    second_moments_.push_back(zeros_like(parameter.value));
  }
}

void AdamW::update(ParameterSet& set, int64_t step, double rate, double grad_scale) {
  NF_CHECK(set.parameters.size() == first_moments_.size()) << set.parameters.size();
  const auto t = static_cast<double>(step + 1);
  StepFactors factors{};
  factors.grad_scale = static_cast<float>(grad_scale);
  factors.beta1 = static_cast<float>(options_.beta1);
  factors.beta2 = static_cast<float>(options_.beta2);
  factors.step_size = static_cast<float>(rate / (1 - std::pow(options_.beta1, t)));
  factors.inverse_sqrt2 = static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, t)));
  factors.epsilon = static_cast<float>(options_.epsilon);
  for (size_t i = 0; i < set.parameters.size(); ++i) {
    const Parameter& parameter = set.parameters[i];
    factors.decay = parameter.weight_decay ? static_cast<float>(1 - rate * options_.weight_decay) : 1.0f;
    auto* value = parameter.value.data<float>();
    const auto* grad = parameter.grad.data<float>();
    auto* m = first_moments_[i].view().data<float>();
    auto* v = second_moments_[i].view().data<float>();
    const int64_t count = parameter.value.numel();
    ThreadPool::global().parallel_for(ceil_div(count, kChunk), [&](int64_t task, int) {
      const int64_t begin = task * kChunk;
      update_elements(factors, std::min(kChunk, count - begin), value + begin, grad + begin, m + begin,
                      v + begin);
    });
  }
}

double gradient_norm(const ParameterSet& set) {
  double sum = 0;
  for (const Parameter& parameter : set.parameters) {
    const auto* grad = parameter.grad.data<float>();
    const int64_t count = parameter.grad.numel();
    std::vector<double> partial(static_cast<size_t>(ceil_div(count, kChunk)), 0.0);
    ThreadPool::global().parallel_for(ceil_div(count, kChunk), [&](int64_t task, int) {
      double chunk_sum = 0;
      for (int64_t i = task * kChunk; i < std::min(count, (task + 1) * kChunk); ++i) {
        chunk_sum += static_cast<double>(grad[i]) * static_cast<double>(grad[i]);
      }
      partial[static_cast<size_t>(task)] = chunk_sum;
    });
    for (const double chunk_sum : partial) sum += chunk_sum;
  }
  return std::sqrt(sum);
}

}  // namespace nemoforge::train
