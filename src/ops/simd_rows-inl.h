// Sums and updates over rows of fp32, for the backward kernels. Included once for each SIMD target.

#if defined(NEMOFORGE_OPS_SIMD_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEMOFORGE_OPS_SIMD_ROWS_INL_H_
#undef NEMOFORGE_OPS_SIMD_ROWS_INL_H_
#else
#define NEMOFORGE_OPS_SIMD_ROWS_INL_H_
#endif

#include <cstdint>

#include "ops/simd_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// sum_i a[i] b[i], in an order that depends on `size` alone.
inline float dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t size) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    sum0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
    sum1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), sum1);
  }
  for (; i + lanes <= size; i += lanes) {
    sum0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
  }
  if (i < size) {
    sum1 = hn::MulAdd(load_partial(d, a + i, size - i), load_partial(d, b + i, size - i), sum1);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
}

// y[i] += scale * x[i].
inline void add_scaled(float scale, const float* HWY_RESTRICT x, float* HWY_RESTRICT y, int64_t size) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, scale);
  for_each_vector(
      d, size,
      [&](int64_t i)
          HWY_ATTR { hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i); },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        const auto sum = hn::MulAdd(factor, load_partial(d, x + i, rest), load_partial(d, y + i, rest));
        store_partial(sum, d, y + i, rest);
      });
}

// out[i] = 1 / (1 + exp(-x[i])); out may be x.
inline void sigmoid_row(const float* x, float* out, int64_t size) {
  const hn::ScalableTag<float> d;
  const auto one = hn::Set(d, 1.0f);
  for_each_vector(
      d, size,
      [&](int64_t i) HWY_ATTR {
        hn::StoreU(hn::Div(one, hn::Add(one, exp_bounded(d, hn::Neg(hn::LoadU(d, x + i))))), d, out + i);
      },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        const auto value = load_partial(d, x + i, rest);
        store_partial(hn::Div(one, hn::Add(one, exp_bounded(d, hn::Neg(value)))), d, out + i, rest);
      });
}

// out[i] = exp(x[i] - offset); out may be x.
inline void exp_row(const float* x, float offset, float* out, int64_t size) {
  const hn::ScalableTag<float> d;
  const auto shift = hn::Set(d, offset);
  for_each_vector(
      d, size,
      [&](int64_t i)
          HWY_ATTR { hn::StoreU(exp_bounded(d, hn::Sub(hn::LoadU(d, x + i), shift)), d, out + i); },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        store_partial(exp_bounded(d, hn::Sub(load_partial(d, x + i, rest), shift)), d, out + i, rest);
      });
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#endif  // NEMOFORGE_OPS_SIMD_ROWS_INL_H_
