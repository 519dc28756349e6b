// Vectors of fp32 from and to elements of any storage type, and the activations' exp and silu. Included once
// for each SIMD target, by files that include hwy/foreach_target.h first.

#if defined(NEMOFORGE_OPS_SIMD_ELEMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEMOFORGE_OPS_SIMD_ELEMENTS_INL_H_
#undef NEMOFORGE_OPS_SIMD_ELEMENTS_INL_H_
#else
#define NEMOFORGE_OPS_SIMD_ELEMENTS_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const float* from) {
  return hn::LoadU(d, from);
}

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const Bf16* from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)));
  return hn::BitCast(d, hn::ShiftLeft<16>(bits));
}

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const F16* from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<hwy::float16_t, D> df16;
  return hn::PromoteTo(d, hn::BitCast(df16, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from))));
}

template <class D>
HWY_INLINE void store(hn::Vec<D> value, D d, float* to) {
  hn::StoreU(value, d, to);
}

// Rounds to nearest even; NaN stays NaN.
template <class D>
HWY_INLINE void store(hn::Vec<D> value, [[maybe_unused]] D d, Bf16* to) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  const auto bits = hn::BitCast(d32, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(d32, 0x7fff)), odd);
  const auto quiet_nan = hn::Or(bits, hn::Set(d32, 0x400000));
  const auto is_nan = hn::RebindMask(d32, hn::IsNaN(value));
  const auto upper = hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet_nan, rounded));
  hn::StoreU(hn::TruncateTo(d16, upper), d16, reinterpret_cast<uint16_t*>(to));
}

// The first `count` elements, fewer than a vector, then zeros. Reads nothing beyond them.
template <class D, typename T>
HWY_INLINE hn::Vec<D> load_partial(D d, const T* from, int64_t count) {
  HWY_ALIGN T elements[hn::MaxLanes(D())] = {};
  std::memcpy(elements, from, static_cast<size_t>(count) * sizeof(T));
  return load(d, elements);
}

// Writes the first `count` elements, fewer than a vector, and nothing beyond them.
template <class D, typename T>
HWY_INLINE void store_partial(hn::Vec<D> value, D d, T* to, int64_t count) {
  HWY_ALIGN T elements[hn::MaxLanes(D())];
  store(value, d, elements);
  std::memcpy(to, elements, static_cast<size_t>(count) * sizeof(T));
}

// Calls whole(i) at every multiple of the vector length that leaves a whole vector of [0, count), and
// partial(i, rest) for the rest.
template <class D, class Whole, class Partial>
HWY_INLINE void for_each_vector(D d, int64_t count, const Whole& whole, const Partial& partial) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) whole(i);
  if (i < count) partial(i, count - i);
}

// to[i] = from[i] for i in [0, count), with one rounding where `To` is bf16.
template <typename From, typename To>
void convert(const From* from, To* to, int64_t count) {
  const hn::ScalableTag<float> d;
  for_each_vector(
      d, count, [&](int64_t i) HWY_ATTR { store(load(d, from + i), d, to + i); },
      [&](int64_t i, int64_t rest)
          HWY_ATTR { store_partial(load_partial(d, from + i, rest), d, to + i, rest); });
}

// exp(x) for x <= 88, to about 2e-7 relative; larger x count as 88. NaN stays NaN (Highway's Exp makes it 0).
template <class D>
HWY_INLINE hn::Vec<D> exp_bounded(D d, hn::Vec<D> x) {
  const auto value = hn::Exp(d, hn::Min(x, hn::Set(d, 88.0f)));
  return hn::IfThenElse(hn::IsNaN(x), x, value);
}

// x / (1 + exp(-x)).
template <class D>
HWY_INLINE hn::Vec<D> silu(D d, hn::Vec<D> x) {
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), exp_bounded(d, hn::Neg(x))));
}

// log(1 + exp(x)), without overflow.
template <class D>
HWY_INLINE hn::Vec<D> softplus(D d, hn::Vec<D> x) {
  const auto tail = hn::Log1p(d, exp_bounded(d, hn::Neg(hn::Abs(x))));
  return hn::Add(hn::Max(x, hn::Zero(d)), tail);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#endif  // NEMOFORGE_OPS_SIMD_ELEMENTS_INL_H_
