// Dot products in fp32 lanes, any element types, every instruction set that Highway knows.
#include "ops/dtype_dispatch.h"
#include "ops/linear/dot_block.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/linear/dot_block_f32.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/simd_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR  // vectors of one lane
template <class D>
HWY_INLINE void store_lane_sums(D /*d*/, const hn::Vec<D>* values, float* to) {
  for (int i = 0; i < 4; ++i) to[i] = hn::GetLane(values[i]);
}
#else
// Adds the halves of a vector of 4-lane blocks until one block is left.
template <class D>
HWY_INLINE void store_block_sum(D d, hn::Vec<D> value, float* to) {
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    store_block_sum(half, hn::Add(hn::LowerHalf(half, value), hn::UpperHalf(half, value)), to);
  } else {
    hn::StoreU(value, d, to);
  }
}

// The sums of the lanes of four vectors, each by the same tree: lanes 2 apart, then 1 apart, then blocks.
template <class D>
HWY_INLINE void store_lane_sums(D d, const hn::Vec<D>* values, float* to) {
  const hn::Repartition<uint64_t, D> d64;
  const auto ab =
      hn::Add(hn::InterleaveLower(d, values[0], values[1]), hn::InterleaveUpper(d, values[0], values[1]));
  const auto cd =
      hn::Add(hn::InterleaveLower(d, values[2], values[3]), hn::InterleaveUpper(d, values[2], values[3]));
  const auto low = hn::InterleaveLower(d64, hn::BitCast(d64, ab), hn::BitCast(d64, cd));
  const auto high = hn::InterleaveUpper(d64, hn::BitCast(d64, ab), hn::BitCast(d64, cd));
  store_block_sum(d, hn::Add(hn::BitCast(d, low), hn::BitCast(d, high)), to);
}
#endif

template <typename XElement, typename WElement>
struct F32Tile {
  using X = XElement;
  using W = WElement;
  // Sums of a tile in registers, beside a vector of x and one for each output: 29 of 32, or 13 of 16.
  static constexpr int kMaxRows = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON ? 6 : 2;

  template <int kRows, int kOuts>
  static HWY_NOINLINE void sums(const X* x, int64_t x_stride, const W* const* weight_rows,
                                int64_t in_features, float* to) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    hn::Vec<decltype(d)> sum[kRows][kOuts];
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::Zero(d);
    }
    hn::Vec<decltype(d)> weight[kOuts];
    int64_t k = 0;
    for (; k + lanes <= in_features; k += lanes) {
      for (int o = 0; o < kOuts; ++o) weight[o] = load(d, weight_rows[o] + k);
      for (int r = 0; r < kRows; ++r) {
        const auto x_value = load(d, x + r * x_stride + k);
        for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::MulAdd(x_value, weight[o], sum[r][o]);
      }
    }
    if (k < in_features) {
      const int64_t rest = in_features - k;
      for (int o = 0; o < kOuts; ++o) weight[o] = load_partial(d, weight_rows[o] + k, rest);
      for (int r = 0; r < kRows; ++r) {
        const auto x_value = load_partial(d, x + r * x_stride + k, rest);
        for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::MulAdd(x_value, weight[o], sum[r][o]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; o += 4) store_lane_sums(d, &sum[r][o], to + r * kOuts + o);
    }
  }
};

template <typename X, typename W>
void dot_block(const DotBlock& block) {
  DotBlockLoops<F32Tile<X, W>>(block).run();
}

DotBlockFunction choose(DType x, DType weight) {
  return dispatch_activation(x, [&](auto x_type) {
    return dispatch_weight(weight, [&](auto weight_type) -> DotBlockFunction {
      return &dot_block<typename decltype(x_type)::type, typename decltype(weight_type)::type>;
    });
  });
}

}  // namespace nemoforge::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(choose);

DotBlockFunction choose_dot_block_f32(DType x, DType weight) {
  return HWY_DYNAMIC_DISPATCH(choose)(x, weight);
}

}  // namespace nemoforge::ops
#endif
