// The product of a few bf16 rows with a bf16 weight, for decode: the weight is streamed once, tensor cores do
// the arithmetic, so that up to kMaxFewRows rows cost what one costs.
//
// A block owns 16 output columns; its kFewRowsWarps warps take turns along in_features, 32 elements at a
// time, and add up their sums in shared memory in a fixed order: a row's bits do not depend on how many rows
// there are. mma.m16n8k16 takes the weight as the matrix of 16 rows and x as the one of 8 columns. The order
// of the elements of k inside a step is free as long as both operands agree, so a lane loads 8 neighbouring
// elements of each (16 bytes) and feeds them to two mma.
//
// Preconditions (few_rows_fit): in_features a multiple of 8, rows and weights aligned to 16 bytes.
#pragma once

#include <cstdint>

#include "ops/cuda_elements.cuh"
#include "ops/cuda_stream.cuh"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

constexpr int kFewRowsWarps = 8;
constexpr int kFewRowsThreads = 32 * kFewRowsWarps;
constexpr int kFewRowsColumns = 16;  // of out, a block
constexpr int kFewRowsTile = 8;      // rows an mma takes

inline bool few_rows_fit(const ConstTensorView& x, const ConstTensorView& weight) {
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  return x.dtype() == DType::kBF16 && weight.dtype() == DType::kBF16 && weight.size(1) % 8 == 0 &&
         x.row_stride() % 8 == 0 && aligned(x.raw()) && aligned(weight.raw());
}

__device__ inline void mma_16x8x16(float (&sums)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                   uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Asks for the first pieces of the weight that multiply_few_rows will read, into the L2 cache: while the
// kernel before still runs, memory is idle.
__device__ inline void prefetch_few_rows(const __nv_bfloat16* weight, int in_features, int out_features,
                                         int first_column) {
  constexpr int kSteps = 4;  // those whose loads multiply_few_rows has under way at once
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = first_column + lane / 4;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int k = (static_cast<int>(threadIdx.x) / 32 + step * kFewRowsWarps) * 32 + lane % 4 * 8;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (k >= in_features || column + half * 8 >= out_features) continue;
      asm volatile("prefetch.global.L2 [%0];\n" ::"l"(
          weight + static_cast<int64_t>(column + half * 8) * in_features + k));
    }
  }
}

// out[r, first_column + c] = x[r] . weight[first_column + c] (+ bias), r < num_rows <= kFewRowsTile * kTiles,
// by one block. `partial` is shared memory of kFewRowsWarps * kTiles * 128 floats.
template <int kTiles, typename OutT>
__device__ void multiply_few_rows(const __nv_bfloat16* x, int64_t x_stride, int num_rows,
                                  const __nv_bfloat16* weight, const __nv_bfloat16* bias, int in_features,
                                  int out_features, int first_column, OutT* out, int64_t out_stride,
                                  float* partial) {
  constexpr int kOutputs = kTiles * kFewRowsTile * kFewRowsColumns;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane / 4;
  const int offset = lane % 4 * 8;  // of this lane's elements in a step of 32
  const bool has_low = first_column + group < out_features;
  const bool has_high = first_column + group + 8 < out_features;
  const __nv_bfloat16* low = weight + static_cast<int64_t>(first_column + group) * in_features;
  const __nv_bfloat16* high = low + static_cast<int64_t>(8) * in_features;
  float sums[kTiles][4] = {};
  // Four steps' loads are under way at once; eight cost the experts' kernel its occupancy (measured: 1.25
  // to 1.7 times as long).
#pragma unroll 4
  for (int k = warp * 32 + offset; k < in_features + offset; k += kFewRowsWarps * 32) {
    // A whole warp passes through each step, since mma needs all lanes; those beyond the end multiply zeros.
    const bool inside = k < in_features;
    const uint4 zero{0, 0, 0, 0};
    const uint4 w_low = inside && has_low ? __ldcs(reinterpret_cast<const uint4*>(low + k)) : zero;
    const uint4 w_high = inside && has_high ? __ldcs(reinterpret_cast<const uint4*>(high + k)) : zero;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int row = tile * kFewRowsTile + group;
      const uint4 values =
          inside && row < num_rows ? *reinterpret_cast<const uint4*>(x + row * x_stride + k) : zero;
      mma_16x8x16(sums[tile], w_low.x, w_high.x, w_low.y, w_high.y, values.x, values.y);
      mma_16x8x16(sums[tile], w_low.z, w_high.z, w_low.w, w_high.w, values.z, values.w);
    }
  }
  __syncthreads();  // the previous use of `partial` is over
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float* of_tile = partial + warp * kOutputs + tile * kFewRowsTile * kFewRowsColumns;
    const int row = lane % 4 * 2;
    of_tile[row * kFewRowsColumns + group] = sums[tile][0];
    of_tile[(row + 1) * kFewRowsColumns + group] = sums[tile][1];
    of_tile[row * kFewRowsColumns + group + 8] = sums[tile][2];
    of_tile[(row + 1) * kFewRowsColumns + group + 8] = sums[tile][3];
  }
  __syncthreads();  // every warp's sums are written
  for (int i = static_cast<int>(threadIdx.x); i < kOutputs; i += kFewRowsThreads) {
    const int row = i / kFewRowsColumns;
    const int column = first_column + i % kFewRowsColumns;
    if (row >= num_rows || column >= out_features) continue;
    float sum = 0;
#pragma unroll
    for (int other = 0; other < kFewRowsWarps; ++other) sum += partial[other * kOutputs + i];
    if (bias != nullptr) sum += to_float(bias[column]);
    out[row * out_stride + column] = from_float<OutT>(sum);
  }
}

}  // namespace nemoforge::ops
