// The two passes of a normalised row, shared by rms_norm and gated_rms_norm: into fp32 with the sum of
// squares, then scaled and rounded. The fp32 row stays in L1 between them. Included once for each SIMD
// target.

#if defined(NEMOFORGE_OPS_NORM_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEMOFORGE_OPS_NORM_ROW_INL_H_
#undef NEMOFORGE_OPS_NORM_ROW_INL_H_
#else
#define NEMOFORGE_OPS_NORM_ROW_INL_H_
#endif

#include <cmath>
#include <cstdint>

#include "ops/simd_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// row[i] = value(i) and the sum of their squares. `whole(i)` gives the vector that begins at i, `partial(i,
// rest)` the last `rest` values followed by zeros. Four running sums hide the latency of the addition; their
// order is fixed.
template <class Whole, class Partial>
HWY_INLINE float fill_row(float* row, int64_t size, const Whole& whole, const Partial& partial) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  auto sum2 = hn::Zero(d);
  auto sum3 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 4 * lanes <= size; i += 4 * lanes) {
    const auto v0 = whole(i);
    const auto v1 = whole(i + lanes);
    const auto v2 = whole(i + 2 * lanes);
    const auto v3 = whole(i + 3 * lanes);
    hn::StoreU(v0, d, row + i);
    hn::StoreU(v1, d, row + i + lanes);
    hn::StoreU(v2, d, row + i + 2 * lanes);
    hn::StoreU(v3, d, row + i + 3 * lanes);
    sum0 = hn::MulAdd(v0, v0, sum0);
    sum1 = hn::MulAdd(v1, v1, sum1);
    sum2 = hn::MulAdd(v2, v2, sum2);
    sum3 = hn::MulAdd(v3, v3, sum3);
  }
  for (; i + lanes <= size; i += lanes) {
    const auto v = whole(i);
    hn::StoreU(v, d, row + i);
    sum0 = hn::MulAdd(v, v, sum0);
  }
  if (i < size) {
    const auto v = partial(i, size - i);
    store_partial(v, d, row + i, size - i);
    sum1 = hn::MulAdd(v, v, sum1);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
}

// out[i] = row[i] / sqrt(sum_of_squares / size + epsilon) * weight[i].
template <typename Weight, typename Out>
HWY_INLINE void write_normalised(const float* row, float sum_of_squares, float epsilon, const Weight* weight,
                                 Out* out, int64_t size) {
  const hn::ScalableTag<float> d;
  const auto scale = hn::Set(d, 1.0f / std::sqrt(sum_of_squares / static_cast<float>(size) + epsilon));
  for_each_vector(
      d, size,
      [&](int64_t i) HWY_ATTR {
        store(hn::Mul(hn::Mul(hn::LoadU(d, row + i), scale), load(d, weight + i)), d, out + i);
      },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        const auto x = hn::Mul(load_partial(d, row + i, rest), scale);
        store_partial(hn::Mul(x, load_partial(d, weight + i, rest)), d, out + i, rest);
      });
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#endif  // NEMOFORGE_OPS_NORM_ROW_INL_H_
