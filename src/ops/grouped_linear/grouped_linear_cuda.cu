// The routed experts' matrix products. At few rows an expert (decode) the floor is the bytes of the touched
// experts' weights: bf16 goes through few_rows_mma.cuh, other types kRowsPerPass rows at a time under a warp
// that streams one column of its expert's weight. The experts' weights lie at one stride from each other
// (checked before launch): the loader stacks them.
#include <algorithm>
#include <type_traits>

#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/grouped_linear/grouped_linear_prefill_cuda.h"
#include "ops/linear/few_rows_mma.cuh"

namespace nemoforge::ops {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kRowsPerPass = 8;

// The group of the `rank`-th run of rows that is not empty; -1 where there are fewer. All lanes of a warp
// call it; all get the answer.
__device__ int nonempty_group(const int32_t* offsets, int num_groups, int rank) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  constexpr int kPerLane = 4;  // whose offsets are under way at once
  for (int first = 0; first < num_groups; first += 32 * kPerLane) {
    bool nonempty[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int group = first + i * 32 + lane;
      nonempty[i] = group < num_groups && offsets[group + 1] != offsets[group];
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const unsigned mask = __ballot_sync(0xffffffffu, nonempty[i]);
      const int num_before = __popc(mask & ((1u << lane) - 1));
      const unsigned found = __ballot_sync(0xffffffffu, nonempty[i] && num_before == rank);
      if (found != 0) return first + i * 32 + __ffs(static_cast<int>(found)) - 1;
      rank -= __popc(mask);
    }
  }
  return -1;
}

// kPiece elements of the weight a lane loads at once: 2, or 1 where in_features is odd.
template <int kPiece, typename XT, typename WeightT, typename OutT>
__global__ void grouped_warp_per_column(const int32_t* offsets, int num_groups, const XT* x, int64_t x_stride,
                                        const WeightT* weights, int64_t group_stride, int in_features,
                                        int out_features, OutT* out, int64_t out_stride) {
  await_previous_kernel();
  const int group = nonempty_group(offsets, num_groups, static_cast<int>(blockIdx.y));
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = static_cast<int>(blockIdx.x * kWarpsPerBlock + threadIdx.x / 32);
  if (group < 0 || column >= out_features) return;
  const WeightT* weight = weights + group * group_stride + static_cast<int64_t>(column) * in_features;
  for (int first = offsets[group]; first < offsets[group + 1]; first += kRowsPerPass) {
    const int num_rows = min(kRowsPerPass, offsets[group + 1] - first);
    float sums[kRowsPerPass] = {};
#pragma unroll 4
    for (int k = lane * kPiece; k < in_features; k += 32 * kPiece) {
      const auto w = *reinterpret_cast<const Pack<WeightT, kPiece>*>(weight + k);
#pragma unroll
      for (int row = 0; row < kRowsPerPass; ++row) {
        if (row >= num_rows) break;
        const XT* x_piece = x + (first + row) * x_stride + k;
#pragma unroll
        for (int i = 0; i < kPiece; ++i) sums[row] += to_float(w.values[i]) * to_float(x_piece[i]);
      }
    }
#pragma unroll
    for (int row = 0; row < kRowsPerPass; ++row) {
      const float sum = warp_sum(sums[row]);
      if (row < num_rows && lane == row) out[(first + row) * out_stride + column] = from_float<OutT>(sum);
    }
  }
}

// out[r, first_column + c] = x[r] . weight[first_column + c], r < num_rows <= kFewRowsTile * kTiles, by one
// block. `partial` is shared memory of kFewRowsWarps * kTiles * 128 floats. The scheme of few_rows_mma.cuh
// with the weight in registers: the copies through shared memory that serve a single weight leave too few
// blocks on a multiprocessor here (H100, 2026-11-24: 9% longer steps at batch 1, 16% at batch 32).
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

template <typename OutT>
__global__ void __launch_bounds__(kFewRowsThreads)
    grouped_few_rows(const int32_t* offsets, int num_groups, const __nv_bfloat16* x, int64_t x_stride,
                     const __nv_bfloat16* weights, int64_t group_stride, int in_features, int out_features,
                     OutT* out, int64_t out_stride) {
  __shared__ float partial[kFewRowsWarps * kFewRowsMax * kFewRowsColumns];
  await_previous_kernel();
  const int group = nonempty_group(offsets, num_groups, static_cast<int>(blockIdx.y));
  if (group < 0) return;
  const __nv_bfloat16* weight = weights + group * group_stride;
  const int column = static_cast<int>(blockIdx.x) * kFewRowsColumns;
  const int end = offsets[group + 1];
  for (int first = offsets[group]; first < end; first += kFewRowsMax) {
    const int num_rows = min(kFewRowsMax, end - first);
    const auto multiply = [&](auto num_tiles) {
      multiply_few_rows<decltype(num_tiles)::value>(x + first * x_stride, x_stride, num_rows, weight, nullptr,
                                                    in_features, out_features, column,
                                                    out + first * out_stride, out_stride, partial);
    };
    if (num_rows <= kFewRowsTile) {
      multiply(std::integral_constant<int, 1>{});
    } else if (num_rows <= 2 * kFewRowsTile) {
      multiply(std::integral_constant<int, 2>{});
    } else {
      multiply(std::integral_constant<int, kFewRowsMaxTiles>{});
    }
  }
}

void run_few_rows(const GroupedLinearArgs& args, int64_t group_stride, OpStream& stream) {
  const LinearWeight& first = args.weights[0];
  const dim3 grid(
      static_cast<unsigned>(ceil_div<int64_t>(first.out_features(), kFewRowsColumns)),
      static_cast<unsigned>(std::min<int64_t>(args.x.size(0), static_cast<int64_t>(args.weights.size()))));
  dispatch_activation(args.out.dtype(), [&](auto out_tag) {
    using OutT = DeviceType<typename decltype(out_tag)::type>;
    stream.launch(grouped_few_rows<OutT>, grid, kFewRowsThreads, 0, args.offsets.data<int32_t>(),
                  static_cast<int>(args.weights.size()), static_cast<const __nv_bfloat16*>(args.x.raw()),
                  args.x.row_stride(), static_cast<const __nv_bfloat16*>(first.weight.raw()), group_stride,
                  static_cast<int>(first.in_features()), static_cast<int>(first.out_features()),
                  static_cast<OutT*>(args.out.raw()), args.out.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void CudaBackend::grouped_linear(const GroupedLinearArgs& args) {
  check(args);
  const int64_t num_rows = args.x.size(0);
  if (num_rows == 0) return;
  const LinearWeight& first = args.weights[0];
  const int64_t weight_bytes = dtype_bytes(first.weight.dtype());
  const auto address = [&](size_t group) {
    return static_cast<const std::byte*>(args.weights[group].weight.raw());
  };
  const int64_t group_stride = args.weights.size() > 1 ? (address(1) - address(0)) / weight_bytes : 0;
  for (size_t group = 0; group < args.weights.size(); ++group) {
    NF_CHECK(address(group) == address(0) + static_cast<int64_t>(group) * group_stride * weight_bytes)
        << "expert " << group << " is not at the stride of the others";
  }
  if (grouped_linear_prefill(args, group_stride, stream_)) return;
  if (few_rows_fit(args.x, first.weight) && group_stride % 8 == 0) {
    return run_few_rows(args, group_stride, stream_);
  }
  const dim3 grid(
      static_cast<unsigned>(ceil_div<int64_t>(first.out_features(), kWarpsPerBlock)),
      static_cast<unsigned>(std::min<int64_t>(num_rows, static_cast<int64_t>(args.weights.size()))));
  dispatch_activation(args.x.dtype(), [&](auto x_tag) {
    dispatch_weight(first.weight.dtype(), [&](auto weight_tag) {
      dispatch_activation(args.out.dtype(), [&](auto out_tag) {
        using XT = DeviceType<typename decltype(x_tag)::type>;
        using WeightT = DeviceType<typename decltype(weight_tag)::type>;
        using OutT = DeviceType<typename decltype(out_tag)::type>;
        const auto kernel = first.in_features() % 2 == 0 ? grouped_warp_per_column<2, XT, WeightT, OutT>
                                                         : grouped_warp_per_column<1, XT, WeightT, OutT>;
        stream_.launch(kernel, grid, kWarpsPerBlock * 32, 0, args.offsets.data<int32_t>(),
                       static_cast<int>(args.weights.size()), static_cast<const XT*>(args.x.raw()),
                       args.x.row_stride(), static_cast<const WeightT*>(first.weight.raw()), group_stride,
                       static_cast<int>(first.in_features()), static_cast<int>(first.out_features()),
                       static_cast<OutT*>(args.out.raw()), args.out.row_stride());
      });
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
