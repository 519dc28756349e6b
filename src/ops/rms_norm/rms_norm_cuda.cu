// RMS norm, one block a row, the row in registers (read once, written once): bandwidth-bound for many rows,
// launch-bound in decode. hidden_size <= kThreads * kMaxPerThread (checked before launch).
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/rms_norm/rms_norm.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 1024;  // decode has few rows: what counts is how much of one is in flight
constexpr int kMaxPerThread = 8;
static_assert(kThreads * kMaxPerThread == kCudaShapeLimits.hidden_size);

template <typename XT, typename DeltaT, typename WeightT, typename OutT, bool kAdd>
__global__ void rms_norm_row_in_registers(const XT* x, XT* residual, int64_t x_stride, const DeltaT* delta,
                                          int64_t delta_stride, const WeightT* weight, float epsilon,
                                          int hidden_size, OutT* out, int64_t out_stride) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x;
  float weights[kMaxPerThread];
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kThreads;
    weights[i] = column < hidden_size ? to_float(weight[column]) : 0.0f;
  }
  await_previous_kernel();
  float values[kMaxPerThread];
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kThreads;
    values[i] = 0;
    if (column >= hidden_size) continue;
    if constexpr (kAdd) {
      values[i] = to_float(residual[row * x_stride + column]) + to_float(delta[row * delta_stride + column]);
    } else {
      values[i] = to_float(x[row * x_stride + column]);
    }
  }
  // Stores after all loads: between them they would make each load wait for the one before.
  float sum_of_squares = 0;
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kThreads;
    if constexpr (kAdd) {
      const XT sum = from_float<XT>(values[i]);
      if (column < hidden_size) residual[row * x_stride + column] = sum;
      values[i] = to_float(sum);
    }
    sum_of_squares += values[i] * values[i];
  }
  const float scale = rsqrtf(block_sum(sum_of_squares, scratch) / static_cast<float>(hidden_size) + epsilon);
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kThreads;
    if (column >= hidden_size) continue;
    out[row * out_stride + column] = from_float<OutT>(values[i] * scale * weights[i]);
  }
}

void check_row_fits(int64_t hidden_size) {
  NF_CHECK(hidden_size <= kThreads * kMaxPerThread)
      << hidden_size << " columns, at most " << kThreads * kMaxPerThread;
}

}  // namespace

void CudaBackend::rms_norm(const RmsNormArgs& args) {
  check(args);
  check_row_fits(args.x.size(1));
  if (args.x.size(0) == 0) return;
  dispatch_activation(args.x.dtype(), [&](auto x_tag) {
    dispatch_weight(args.weight.dtype(), [&](auto weight_tag) {
      dispatch_activation(args.out.dtype(), [&](auto out_tag) {
        using XT = DeviceType<typename decltype(x_tag)::type>;
        using WeightT = DeviceType<typename decltype(weight_tag)::type>;
        using OutT = DeviceType<typename decltype(out_tag)::type>;
        stream_.launch(
            rms_norm_row_in_registers<XT, XT, WeightT, OutT, false>, static_cast<unsigned>(args.x.size(0)),
            kThreads, 0, static_cast<const XT*>(args.x.raw()), nullptr, args.x.row_stride(), nullptr, 0,
            static_cast<const WeightT*>(args.weight.raw()), args.epsilon, static_cast<int>(args.x.size(1)),
            static_cast<OutT*>(args.out.raw()), args.out.row_stride());
      });
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

void CudaBackend::add_rms_norm(const AddRmsNormArgs& args) {
  check(args);
  check_row_fits(args.residual.size(1));
  if (args.residual.size(0) == 0) return;
  dispatch_activation(args.residual.dtype(), [&](auto x_tag) {
    dispatch_activation(args.delta.dtype(), [&](auto delta_tag) {
      dispatch_weight(args.weight.dtype(), [&](auto weight_tag) {
        dispatch_activation(args.out.dtype(), [&](auto out_tag) {
          using XT = DeviceType<typename decltype(x_tag)::type>;
          using DeltaT = DeviceType<typename decltype(delta_tag)::type>;
          using WeightT = DeviceType<typename decltype(weight_tag)::type>;
          using OutT = DeviceType<typename decltype(out_tag)::type>;
          stream_.launch(rms_norm_row_in_registers<XT, DeltaT, WeightT, OutT, true>,
                         static_cast<unsigned>(args.residual.size(0)), kThreads, 0, nullptr,
                         static_cast<XT*>(args.residual.raw()), args.residual.row_stride(),
                         static_cast<const DeltaT*>(args.delta.raw()), args.delta.row_stride(),
                         static_cast<const WeightT*>(args.weight.raw()), args.epsilon,
                         static_cast<int>(args.residual.size(1)), static_cast<OutT*>(args.out.raw()),
                         args.out.row_stride());
        });
      });
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
