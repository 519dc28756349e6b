// The products with low-rank pairs on tensor cores, for rows of bf16 and pairs of f32 with 16 components.
//
// A number of f32 takes part as two of bf16 (SplitPair): the products are good to 2^-16 relative, so that the
// pairs lose nothing that counts. Sums are fp32. Fragments are loaded straight from memory: the order of the
// features along a sum, and of the columns of a result, is chosen such that a lane's eight are 16 bytes of a
// row.
#pragma once

#include <cstdint>

#include "ops/lora/lora_rows_cuda.h"
#include "ops/tensor_core.cuh"

namespace nemoforge::ops {

constexpr int kLaneFeatures = 8;                  // a lane's, 16 bytes of bf16
constexpr int kStepFeatures = 4 * kLaneFeatures;  // of the four lanes that share a row

// The two k-steps' B fragments of eight features of one component.
struct ComponentFragments {
  SplitPair pairs[kLaneFeatures / 2];
};

// Features [feature, feature + 8) of a component; zeros from num_features on (a multiple of eight).
template <LoraFactor kFactor>
__device__ ComponentFragments load_component(const float* weight, int num_features, int feature,
                                             int component) {
  float values[kLaneFeatures] = {};
  if (feature < num_features) {
    if constexpr (kFactor == LoraFactor::kA) {
      const auto* source =
          reinterpret_cast<const float4*>(weight + static_cast<int64_t>(component) * num_features + feature);
      const float4 first = source[0];
      const float4 second = source[1];
      values[0] = first.x;
      values[1] = first.y;
      values[2] = first.z;
      values[3] = first.w;
      values[4] = second.x;
      values[5] = second.y;
      values[6] = second.z;
      values[7] = second.w;
    } else {
#pragma unroll
      for (int i = 0; i < kLaneFeatures; ++i) {
        values[i] = weight[static_cast<int64_t>(feature + i) * kLoraRankChunk + component];
      }
    }
  }
  ComponentFragments result;
#pragma unroll
  for (int i = 0; i < kLaneFeatures / 2; ++i) result.pairs[i] = split(values[2 * i], values[2 * i + 1]);
  return result;
}

// sums [16 rows x 16 components] += rows w^T over the features of steps first_step, first_step + num_warps,
// ... Lane l reads rows l / 4 and l / 4 + 8, features 8 (l % 4) .. + 7 of a step, and components l / 4 and
// + 8.
template <LoraFactor kFactor>
__device__ void shrink_by_products(const __nv_bfloat16* upper_row, const __nv_bfloat16* lower_row,
                                   const float* weight, int num_features, int first_step, int num_warps,
                                   int lane, float (&sums)[2][4]) {
  const int num_steps = (num_features + kStepFeatures - 1) / kStepFeatures;
#pragma unroll 4
  for (int step = first_step; step < num_steps; step += num_warps) {
    const int feature = step * kStepFeatures + lane % 4 * kLaneFeatures;
    uint4 upper = make_uint4(0, 0, 0, 0);
    uint4 lower = make_uint4(0, 0, 0, 0);
    if (feature < num_features) {
      upper = *reinterpret_cast<const uint4*>(upper_row + feature);
      lower = *reinterpret_cast<const uint4*>(lower_row + feature);
    }
    const uint32_t first_a[4] = {upper.x, lower.x, upper.y, lower.y};
    const uint32_t second_a[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const ComponentFragments b =
          load_component<kFactor>(weight, num_features, feature, lane / 4 + half * 8);
      multiply_add(sums[half], first_a, b.pairs[0].high, b.pairs[1].high);
      multiply_add(sums[half], first_a, b.pairs[0].low, b.pairs[1].low);
      multiply_add(sums[half], second_a, b.pairs[2].high, b.pairs[3].high);
      multiply_add(sums[half], second_a, b.pairs[2].low, b.pairs[3].low);
    }
  }
}

// One n-tile's B fragments [16 components x 8 columns].
struct ColumnFragments {
  SplitPair first;   // components 2 (l % 4) and the next
  SplitPair second;  // 8 further
};

template <LoraFactor kFactor>
__device__ ColumnFragments load_column(const float* weight, int num_features, int column, int lane) {
  const int component = lane % 4 * 2;
  float values[4] = {};
  if (column < num_features) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int c = component + i % 2 + i / 2 * 8;
      values[i] = kFactor == LoraFactor::kA ? weight[static_cast<int64_t>(c) * num_features + column]
                                            : weight[static_cast<int64_t>(column) * kLoraRankChunk + c];
    }
  }
  return {split(values[0], values[1]), split(values[2], values[3])};
}

// The A fragments [16 rows x 16 components] of low, of which rows from end_row on are zero.
struct LowFragments {
  uint32_t high[4];
  uint32_t low[4];
};
__device__ inline LowFragments load_low_fragments(const float* low, int64_t low_stride, int first_row,
                                                  int end_row, int lane) {
  LowFragments result;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = first_row + lane / 4 + i % 2 * 8;
    float2 pair = make_float2(0, 0);
    if (row < end_row) {
      pair = *reinterpret_cast<const float2*>(low + row * low_stride + lane % 4 * 2 + i / 2 * 8);
    }
    const SplitPair parts = split(pair.x, pair.y);
    result.high[i] = parts.high;
    result.low[i] = parts.low;
  }
  return result;
}

// sums += low w of one n-tile; what is left out is the product of the two lower parts.
__device__ inline void multiply_low(float (&sums)[4], const LowFragments& low, const ColumnFragments& w) {
  multiply_add(sums, low.high, w.first.high, w.second.high);
  multiply_add(sums, low.low, w.first.high, w.second.high);
  multiply_add(sums, low.high, w.first.low, w.second.low);
}

// Two rows' bf16 at one column as a pair.
__device__ inline uint32_t pair_of_rows(uint32_t first, uint32_t second, bool upper) {
  return __byte_perm(first, second, upper ? 0x7632 : 0x5410);
}

// The A fragments [16 components x 16 rows] of low transposed, of which rows from end_row on are zero.
__device__ inline LowFragments load_low_transposed(const float* low, int64_t low_stride, int first_row,
                                                   int end_row, int lane) {
  LowFragments result;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = first_row + lane % 4 * 2 + i / 2 * 8;
    const int component = lane / 4 + i % 2 * 8;
    const float first = row < end_row ? low[row * low_stride + component] : 0.0f;
    const float second = row + 1 < end_row ? low[(row + 1) * low_stride + component] : 0.0f;
    const SplitPair parts = split(first, second);
    result.high[i] = parts.high;
    result.low[i] = parts.low;
  }
  return result;
}

constexpr int kGradientColumns = 64;  // of a warp: eight n-tiles, in which lane l has column 8 (l / 4) + tile

// sums [8 n-tiles][16 components x 8 columns] += low^T rows over rows [first_row, end_row). Of tile t, sums
// has components l / 4 ([0], [1]) and 8 further, at columns 16 (l % 4) + t and 8 further.
__device__ inline void gradient_by_products(const float* low, int64_t low_stride,
                                            const __nv_bfloat16* columns, int64_t stride, bool inside,
                                            int first_row, int end_row, int lane, float (&sums)[8][4]) {
#pragma unroll 2
  for (int row = first_row; row < end_row; row += 16) {
    uint4 pieces[4];  // rows 2 (l % 4), the next, and those 8 further; what low is zero for is any row
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int source = min(row + lane % 4 * 2 + i % 2 + i / 2 * 8, end_row - 1);
      pieces[i] = inside ? *reinterpret_cast<const uint4*>(columns + source * stride + lane / 4 * 8)
                         : make_uint4(0, 0, 0, 0);
    }
    const LowFragments a = load_low_transposed(low, low_stride, row, end_row, lane);
    const auto word = [](const uint4& piece, int i) {
      return i == 0 ? piece.x : i == 1 ? piece.y : i == 2 ? piece.z : piece.w;
    };
#pragma unroll
    for (int tile = 0; tile < 8; ++tile) {
      const uint32_t b0 = pair_of_rows(word(pieces[0], tile / 2), word(pieces[1], tile / 2), tile % 2 == 1);
      const uint32_t b1 = pair_of_rows(word(pieces[2], tile / 2), word(pieces[3], tile / 2), tile % 2 == 1);
      multiply_add(sums[tile], a.high, b0, b1);
      multiply_add(sums[tile], a.low, b0, b1);
    }
  }
}

}  // namespace nemoforge::ops
