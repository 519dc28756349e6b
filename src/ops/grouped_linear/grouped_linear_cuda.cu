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
      const int count = __popc(mask);
      if (rank < count) return first + i * 32 + static_cast<int>(__fns(mask, 0, rank + 1));
      rank -= count;
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

constexpr int kMaxTiles = 4;
constexpr int kRowsAtOnce = kMaxTiles * kFewRowsTile;

template <typename OutT>
__global__ void __launch_bounds__(kFewRowsThreads)
    grouped_few_rows(const int32_t* offsets, int num_groups, const __nv_bfloat16* x, int64_t x_stride,
                     const __nv_bfloat16* weights, int64_t group_stride, int in_features, int out_features,
                     OutT* out, int64_t out_stride) {
  __shared__ float partial[kFewRowsWarps * kRowsAtOnce * kFewRowsColumns];
  await_previous_kernel();
  const int group = nonempty_group(offsets, num_groups, static_cast<int>(blockIdx.y));
  if (group < 0) return;
  const __nv_bfloat16* weight = weights + group * group_stride;
  const int column = static_cast<int>(blockIdx.x) * kFewRowsColumns;
  const int end = offsets[group + 1];
  for (int first = offsets[group]; first < end; first += kRowsAtOnce) {
    const int num_rows = min(kRowsAtOnce, end - first);
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
      multiply(std::integral_constant<int, kMaxTiles>{});
    }
  }
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
  const bool few_rows = few_rows_fit(args.x, first.weight) && group_stride % 8 == 0;
  const dim3 grid(
      static_cast<unsigned>(
          ceil_div<int64_t>(first.out_features(), few_rows ? kFewRowsColumns : kWarpsPerBlock)),
      static_cast<unsigned>(std::min<int64_t>(num_rows, static_cast<int64_t>(args.weights.size()))));
  if (few_rows) {
    dispatch_activation(args.out.dtype(), [&](auto out_tag) {
      using OutT = DeviceType<typename decltype(out_tag)::type>;
      stream_.launch(grouped_few_rows<OutT>, grid, kFewRowsThreads, 0, args.offsets.data<int32_t>(),
                     static_cast<int>(args.weights.size()), static_cast<const __nv_bfloat16*>(args.x.raw()),
                     args.x.row_stride(), static_cast<const __nv_bfloat16*>(first.weight.raw()), group_stride,
                     static_cast<int>(first.in_features()), static_cast<int>(first.out_features()),
                     static_cast<OutT*>(args.out.raw()), args.out.row_stride());
    });
    CUDA_CHECK(cudaGetLastError());
    return;
  }
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
