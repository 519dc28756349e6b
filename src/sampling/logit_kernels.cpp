#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sampling/logit_kernels.cpp"
#include <hwy/foreach_target.h>
// Must come after foreach_target.h.
#include <hwy/contrib/algo/find-inl.h>
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "sampling/logit_kernels.h"

// Everything until HWY_ONCE is compiled once for every instruction set.
HWY_BEFORE_NAMESPACE();
namespace nemoforge::sampling {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;

bool all_finite(const float* values, size_t count) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const auto largest = hn::Set(d, std::numeric_limits<float>::max());
  size_t i = 0;
  auto finite = hn::FirstN(d, lanes);
  for (; i + lanes <= count; i += lanes) {
    finite = hn::And(finite, hn::Le(hn::Abs(hn::LoadU(d, values + i)), largest));
  }
  bool result = hn::AllTrue(d, finite);
  for (; i < count; ++i) result = result && std::abs(values[i]) <= std::numeric_limits<float>::max();
  return result;
}

size_t argmax(const float* values, size_t count) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Set(d, -std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) largest = hn::Max(largest, hn::LoadU(d, values + i));
  float max = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; i < count; ++i) max = std::max(max, values[i]);
  return hn::Find(d, max, values, count);
}

using Doubles = hn::ScalableTag<double>;
// As many floats as a vector has doubles: what one promotion widens.
using PromotableFloats = hn::Rebind<float, Doubles>;

double exp_sum(const float* values, size_t count, float max) {
  const Doubles d64;
  const PromotableFloats d;
  const size_t lanes = hn::Lanes(d);
  const auto shift = hn::Set(d, max);
  auto total = hn::Zero(d64);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    total = hn::Add(total, hn::PromoteTo(d64, hn::Exp(d, hn::Sub(hn::LoadU(d, values + i), shift))));
  }
  double result = hn::GetLane(hn::SumOfLanes(d64, total));
  for (; i < count; ++i) result += std::exp(values[i] - max);
  return result;
}

void to_weights(float* values, size_t count, float max, float inverse_temperature) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const auto shift = hn::Set(d, max);
  const auto scale = hn::Set(d, inverse_temperature);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto exponent = hn::Mul(hn::Sub(hn::LoadU(d, values + i), shift), scale);
    hn::StoreU(hn::Exp(d, exponent), d, values + i);
  }
  for (; i < count; ++i) values[i] = std::exp((values[i] - max) * inverse_temperature);
}

double sum(const float* values, size_t count) {
  const Doubles d64;
  const PromotableFloats d;
  const size_t lanes = hn::Lanes(d);
  auto total = hn::Zero(d64);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) total = hn::Add(total, hn::PromoteTo(d64, hn::LoadU(d, values + i)));
  double result = hn::GetLane(hn::SumOfLanes(d64, total));
  for (; i < count; ++i) result += values[i];
  return result;
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::sampling
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::sampling {

HWY_EXPORT(all_finite);
HWY_EXPORT(argmax);
HWY_EXPORT(exp_sum);
HWY_EXPORT(to_weights);
HWY_EXPORT(sum);

bool all_finite(std::span<const float> logits) {
  return HWY_DYNAMIC_DISPATCH(all_finite)(logits.data(), logits.size());
}

size_t argmax(std::span<const float> logits) {
  return HWY_DYNAMIC_DISPATCH(argmax)(logits.data(), logits.size());
}

double exp_sum(std::span<const float> logits, float max) {
  return HWY_DYNAMIC_DISPATCH(exp_sum)(logits.data(), logits.size(), max);
}

void to_weights(std::span<float> logits, float max, float inverse_temperature) {
  HWY_DYNAMIC_DISPATCH(to_weights)(logits.data(), logits.size(), max, inverse_temperature);
}

double sum(std::span<const float> weights) {
  return HWY_DYNAMIC_DISPATCH(sum)(weights.data(), weights.size());
}

}  // namespace nemoforge::sampling
#endif  // HWY_ONCE
