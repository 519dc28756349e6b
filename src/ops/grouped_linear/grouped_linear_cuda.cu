// The routed experts' matrix products. Every group's rows pass kRowsPerPass at a time under a warp that
// streams one column of its expert's weight: at few rows an expert (decode) the floor is the bytes of the
// touched experts' weights. The experts' weights lie at one stride from each other (checked before launch):
// the loader stacks them.
#include <algorithm>

#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/grouped_linear/grouped_linear_prefill_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kRowsPerPass = 8;

// The group of the `rank`-th run of rows that is not empty; -1 where there are fewer.
__device__ int nonempty_group(const int32_t* offsets, int num_groups, int rank) {
  for (int group = 0; group < num_groups; ++group) {
    if (offsets[group + 1] == offsets[group]) continue;
    if (rank == 0) return group;
    --rank;
  }
  return -1;
}

// kPiece elements of the weight a lane loads at once: 2, or 1 where in_features is odd.
template <int kPiece, typename XT, typename WeightT, typename OutT>
__global__ void grouped_warp_per_column(const int32_t* offsets, int num_groups, const XT* x, int64_t x_stride,
                                        const WeightT* weights, int64_t group_stride, int in_features,
                                        int out_features, OutT* out, int64_t out_stride) {
  __shared__ int group_of_block;
  if (threadIdx.x == 0) group_of_block = nonempty_group(offsets, num_groups, static_cast<int>(blockIdx.y));
  __syncthreads();  // the group is known to every warp
  const int group = group_of_block;
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
        kernel<<<grid, kWarpsPerBlock * 32, 0, stream_>>>(
            args.offsets.data<int32_t>(), static_cast<int>(args.weights.size()),
            static_cast<const XT*>(args.x.raw()), args.x.row_stride(),
            static_cast<const WeightT*>(first.weight.raw()), group_stride,
            static_cast<int>(first.in_features()), static_cast<int>(first.out_features()),
            static_cast<OutT*>(args.out.raw()), args.out.row_stride());
      });
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
