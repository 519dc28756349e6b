// The recurrence of the scan as written, and the step sizes of a head. Included once for each SIMD target.

#if defined(NEMOFORGE_OPS_SSD_RECURRENCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEMOFORGE_OPS_SSD_RECURRENCE_INL_H_
#undef NEMOFORGE_OPS_SSD_RECURRENCE_INL_H_
#else
#define NEMOFORGE_OPS_SSD_RECURRENCE_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ops/small_matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// The logarithm of a step's decay, A dt with A = -exp(a_log) <= 0, in double: sums of it over a chunk are
// subtracted from each other. Bounded so that such a sum is finite; exp of the bound is zero in fp32.
inline double log_decay(float a_log, float dt) {
  return std::max(-1e4, -std::exp(static_cast<double>(a_log)) * static_cast<double>(dt));
}

// One step of one head: state = decay * state + (dt * x) b^T, y = state c. `b` and `c` are padded with zeros
// to kPaddedLanes; `dt_x` and `y` have head_dim elements, and may be the same.
inline void recurrence_step(float* state, float decay, const float* dt_x, const float* b, const float* c,
                            float* y, int64_t head_dim, int64_t state_size) {
  const MatmulTag d;
  const auto decays = hn::Set(d, decay);
  const auto row = [&](int64_t p) HWY_ATTR {
    const auto input = hn::Set(d, dt_x[p]);
    float* h = state + p * state_size;
    auto sum = hn::Zero(d);
    for_each_vector(
        d, state_size,
        [&](int64_t n) HWY_ATTR {
          const auto next = hn::MulAdd(input, hn::LoadU(d, b + n), hn::Mul(decays, hn::LoadU(d, h + n)));
          hn::StoreU(next, d, h + n);
          sum = hn::MulAdd(next, hn::LoadU(d, c + n), sum);
        },
        [&](int64_t n, int64_t rest) HWY_ATTR {
          const auto next =
              hn::MulAdd(input, hn::LoadU(d, b + n), hn::Mul(decays, load_partial(d, h + n, rest)));
          store_partial(next, d, h + n, rest);
          sum = hn::MulAdd(next, hn::LoadU(d, c + n), sum);
        });
    return hn::GetLane(hn::SumOfLanes(d, sum));
  };
  for (int64_t p = 0; p < head_dim; ++p) y[p] = row(p);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#endif  // NEMOFORGE_OPS_SSD_RECURRENCE_INL_H_
