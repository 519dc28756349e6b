// Gated group norm: one block a (row, group), the group's gated values in registers.
// channels / num_groups <= kMaxGroupSize (checked before launch).
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/gated_rms_norm/gated_rms_norm.h"

namespace nemoforge::ops {
namespace {

constexpr int kMaxGroupSize = kCudaShapeLimits.norm_group_size;
// Nemotron-3-Nano's groups: few threads with several loads each keep more blocks at work.
constexpr int kSmallGroupSize = 512;

template <int kThreads, int kMaxPerThread, typename YT, typename ZT, typename WeightT, typename OutT>
__global__ void gated_rms_norm_group_in_registers(const YT* y, int64_t y_stride, const ZT* z,
                                                  int64_t z_stride, const WeightT* weight, float epsilon,
                                                  int group_size, OutT* out, int64_t out_stride) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x;
  const int first_channel = static_cast<int>(blockIdx.y) * group_size;
  await_previous_kernel();
  float gated[kMaxPerThread];
  float sum_of_squares = 0;
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i) {
    const int place = static_cast<int>(threadIdx.x) + i * kThreads;
    gated[i] = 0;
    if (place >= group_size) continue;
    const int channel = first_channel + place;
    gated[i] = to_float(y[row * y_stride + channel]) * silu(to_float(z[row * z_stride + channel]));
    sum_of_squares += gated[i] * gated[i];
  }
  const float scale = rsqrtf(block_sum(sum_of_squares, scratch) / static_cast<float>(group_size) + epsilon);
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i) {
    const int place = static_cast<int>(threadIdx.x) + i * kThreads;
    if (place >= group_size) continue;
    const int channel = first_channel + place;
    out[row * out_stride + channel] = from_float<OutT>(gated[i] * scale * to_float(weight[channel]));
  }
}

}  // namespace

void CudaBackend::gated_rms_norm(const GatedRmsNormArgs& args) {
  check(args);
  const int64_t group_size = args.y.size(1) / args.num_groups;
  NF_CHECK(group_size <= kMaxGroupSize) << group_size << " channels a group";
  if (args.y.size(0) == 0) return;
  const dim3 grid(static_cast<unsigned>(args.y.size(0)), static_cast<unsigned>(args.num_groups));
  dispatch_activation(args.y.dtype(), [&](auto y_tag) {
    dispatch_activation(args.z.dtype(), [&](auto z_tag) {
      dispatch_weight(args.weight.dtype(), [&](auto weight_tag) {
        dispatch_activation(args.out.dtype(), [&](auto out_tag) {
          using YT = DeviceType<typename decltype(y_tag)::type>;
          using ZT = DeviceType<typename decltype(z_tag)::type>;
          using WeightT = DeviceType<typename decltype(weight_tag)::type>;
          using OutT = DeviceType<typename decltype(out_tag)::type>;
          const bool small = group_size <= kSmallGroupSize;
          constexpr int kThreads = 512;
          constexpr int kSmallThreads = 128;
          stream_.launch(
              small ? gated_rms_norm_group_in_registers<kSmallThreads, kSmallGroupSize / kSmallThreads, YT,
                                                        ZT, WeightT, OutT>
                    : gated_rms_norm_group_in_registers<kThreads, kMaxGroupSize / kThreads, YT, ZT, WeightT,
                                                        OutT>,
              grid, small ? kSmallThreads : kThreads, 0, static_cast<const YT*>(args.y.raw()),
              args.y.row_stride(), static_cast<const ZT*>(args.z.raw()), args.z.row_stride(),
              static_cast<const WeightT*>(args.weight.raw()), args.epsilon, static_cast<int>(group_size),
              static_cast<OutT*>(args.out.raw()), args.out.row_stride());
        });
      });
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
