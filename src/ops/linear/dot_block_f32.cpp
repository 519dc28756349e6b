// Dot products in fp32 lanes, any element types, every instruction set that Highway knows.
#include "ops/dtype_dispatch.h"
#include "ops/linear/dot_block.h"

// Sums are arrays of vectors, which need vectors of a size known when compiling.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
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
  static constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<float>());

  template <int kRows, int kOuts>
  static HWY_NOINLINE void compute(const DotTile<X, W>& tile) {
    const hn::ScalableTag<float> d;
    const X* x = tile.x;
    const int64_t x_stride = tile.x_stride;
    const W* weight_rows[kOuts];
    for (int o = 0; o < kOuts; ++o) weight_rows[o] = tile.weight_rows[o];
    hn::Vec<decltype(d)> sum[kRows][kOuts];
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) {
        sum[r][o] = hn::Zero(d);
      }
    }
    hn::Vec<decltype(d)> weight[kOuts];
    int64_t k = 0;
    for (; k + kLanes <= tile.in_features; k += kLanes) {
      for (int o = 0; o < kOuts; ++o) {
        if (tile.prefetch != nullptr) prefetch_weights(tile.prefetch + o * tile.in_features + k);
        weight[o] = load(d, weight_rows[o] + k);
      }
      for (int r = 0; r < kRows; ++r) {
        const auto x_value = load(d, x + r * x_stride + k);
        for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::MulAdd(x_value, weight[o], sum[r][o]);
      }
    }
    if (k < tile.in_features) {
      const int64_t rest = tile.in_features - k;
      for (int o = 0; o < kOuts; ++o) weight[o] = load_partial(d, weight_rows[o] + k, rest);
      for (int r = 0; r < kRows; ++r) {
        const auto x_value = load_partial(d, x + r * x_stride + k, rest);
        for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::MulAdd(x_value, weight[o], sum[r][o]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; o += 4) {
        store_lane_sums(d, &sum[r][o], tile.sums + r * kFinishOuts + o);
      }
    }
  }
};

template <typename X, typename W>
void dot_block(const DotBlock& block) {
  DotBlockLoops<F32Tile<X, W>>(block).run();
}

DotBlockFunction choose_block(DType x, DType weight) {
  return dispatch_activation(x, [&](auto x_type) {
    return dispatch_weight(weight, [&](auto weight_type) -> DotBlockFunction {
      return &dot_block<typename decltype(x_type)::type, typename decltype(weight_type)::type>;
    });
  });
}

template <typename Bias>
float bias_at(const void* bias, int64_t index) {
  return static_cast<float>(static_cast<const Bias*>(bias)[index]);
}

// The rare parts, one at a time: `values` are updated in place.
void add_bias(const DotBlock& block, int64_t first_out, int64_t count, float* values) {
  dispatch_weight(block.bias_dtype, [&](auto type) {
    for (int64_t i = 0; i < count; ++i) {
      values[i] += bias_at<typename decltype(type)::type>(block.bias, first_out + i);
    }
  });
}

template <typename Out>
void finish_sums_as(const DotBlock& block, int64_t row, int64_t first_out, int64_t count, const float* sums) {
  const hn::ScalableTag<float> d;
  Out* out = static_cast<Out*>(block.out) + row * block.out_stride + first_out;
  if (!block.accumulate) {
    convert(sums, out, count);
    return;
  }
  const auto scale = hn::Set(d, block.scale);
  for_each_vector(
      d, count,
      [&](int64_t i) HWY_ATTR { store(hn::MulAdd(scale, load(d, sums + i), load(d, out + i)), d, out + i); },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        const auto total = hn::MulAdd(scale, load_partial(d, sums + i, rest), load_partial(d, out + i, rest));
        store_partial(total, d, out + i, rest);
      });
}

void finish_sums(const DotBlock& block, int64_t row, int64_t first_out, int64_t count, const float* sums) {
  float with_bias[kFinishOuts];
  if (block.bias != nullptr) {
    std::copy_n(sums, count, with_bias);
    add_bias(block, first_out, count, with_bias);
    sums = with_bias;
  }
  if (block.out_dtype == DType::kF32) {
    finish_sums_as<float>(block, row, first_out, count, sums);
  } else {
    finish_sums_as<Bf16>(block, row, first_out, count, sums);
  }
}

FinishSumsFunction choose_finish() {
  return &finish_sums;
}

}  // namespace nemoforge::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(choose_block);
HWY_EXPORT(choose_finish);

DotBlockFunction choose_dot_block_f32(DType x, DType weight) {
  return HWY_DYNAMIC_DISPATCH(choose_block)(x, weight);
}

FinishSumsFunction choose_finish_sums() {
  return HWY_DYNAMIC_DISPATCH(choose_finish)();
}

}  // namespace nemoforge::ops
#endif
