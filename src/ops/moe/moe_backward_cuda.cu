// A block a token: its rows are gathered, or its gradient is spread over them. kPiece elements a thread at a
// time: 16 bytes where rows are aligned to that.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/moe/moe_backward_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 256;

template <int kPiece, typename T, typename SumT>
__global__ void gather_gradients(const int32_t* row_of, int top_k, const T* d_dispatched, int64_t stride,
                                 int64_t hidden_size, SumT* d_x, int64_t d_x_stride) {
  const int64_t token = blockIdx.x;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kPiece;
  if (column >= hidden_size) return;
  auto* target = reinterpret_cast<Pack<SumT, kPiece>*>(d_x + token * d_x_stride + column);
  Pack<SumT, kPiece> result = *target;
  float sums[kPiece];
#pragma unroll
  for (int i = 0; i < kPiece; ++i) sums[i] = to_float(result.values[i]);
#pragma unroll 4
  for (int k = 0; k < top_k; ++k) {
    const auto piece =
        *reinterpret_cast<const Pack<T, kPiece>*>(d_dispatched + row_of[token * top_k + k] * stride + column);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) sums[i] += to_float(piece.values[i]);
  }
#pragma unroll
  for (int i = 0; i < kPiece; ++i) result.values[i] = from_float<SumT>(sums[i]);
  *target = result;
}

// Block (token, k).
template <int kPiece, typename T>
__global__ void spread_gradient(const T* expert_out, int64_t expert_stride, const int32_t* row_of,
                                const float* expert_weights, int64_t weights_stride, const T* d_out,
                                int64_t d_out_stride, int64_t hidden_size, T* d_expert_out,
                                int64_t d_expert_stride, float* d_expert_weights, int64_t d_weights_stride) {
  __shared__ float scratch[32];
  const int64_t token = blockIdx.x;
  const int64_t k = blockIdx.y;
  const int64_t row = row_of[token * gridDim.y + k];
  const float weight = expert_weights[token * weights_stride + k];
  float product = 0;
  for (int64_t column = static_cast<int64_t>(threadIdx.x) * kPiece; column < hidden_size;
       column += kThreads * kPiece) {
    const auto gradient = *reinterpret_cast<const Pack<T, kPiece>*>(d_out + token * d_out_stride + column);
    const auto value = *reinterpret_cast<const Pack<T, kPiece>*>(expert_out + row * expert_stride + column);
    auto* target = reinterpret_cast<Pack<T, kPiece>*>(d_expert_out + row * d_expert_stride + column);
    Pack<T, kPiece> sums = *target;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      const float g = to_float(gradient.values[i]);
      product += g * to_float(value.values[i]);
      sums.values[i] = from_float<T>(to_float(sums.values[i]) + weight * g);
    }
    *target = sums;
  }
  product = block_sum(product, scratch);
  if (threadIdx.x == 0) d_expert_weights[token * d_weights_stride + k] += product;
}

}  // namespace

void moe_dispatch_backward_cuda(const MoeDispatchBackwardArgs& args, CudaTrainingContext& context) {
  if (args.d_x.numel() == 0) return;
  const int64_t hidden_size = args.d_x.size(1);
  dispatch_activation(args.d_dispatched.dtype(), [&](auto tag) {
    dispatch_activation(args.d_x.dtype(), [&](auto sum_tag) {
      using T = DeviceType<typename decltype(tag)::type>;
      using SumT = DeviceType<typename decltype(sum_tag)::type>;
      constexpr int kWide = 4;
      const bool wide = rows_aligned_to<kWide>(args.d_dispatched) && rows_aligned_to<kWide>(args.d_x);
      const dim3 grid(static_cast<unsigned>(args.d_x.size(0)),
                      static_cast<unsigned>(ceil_div<int64_t>(hidden_size, kThreads * (wide ? kWide : 1))));
      const auto kernel = wide ? gather_gradients<kWide, T, SumT> : gather_gradients<1, T, SumT>;
      kernel<<<grid, kThreads, 0, context.stream()>>>(
          args.row_of.data<int32_t>(), static_cast<int>(args.row_of.size(1)),
          static_cast<const T*>(args.d_dispatched.raw()), args.d_dispatched.row_stride(), hidden_size,
          static_cast<SumT*>(args.d_x.raw()), args.d_x.row_stride());
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

void moe_combine_backward_cuda(const MoeCombineBackwardArgs& args, CudaTrainingContext& context) {
  if (args.d_out.numel() == 0) return;
  const dim3 grid(static_cast<unsigned>(args.row_of.size(0)), static_cast<unsigned>(args.row_of.size(1)));
  dispatch_activation(args.expert_out.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    constexpr int kWide = 16 / sizeof(T);
    const bool wide = rows_aligned_to<kWide>(args.expert_out) && rows_aligned_to<kWide>(args.d_out) &&
                      rows_aligned_to<kWide>(args.d_expert_out);
    const auto kernel = wide ? spread_gradient<kWide, T> : spread_gradient<1, T>;
    kernel<<<grid, kThreads, 0, context.stream()>>>(
        static_cast<const T*>(args.expert_out.raw()), args.expert_out.row_stride(),
        args.row_of.data<int32_t>(), args.expert_weights.data<float>(), args.expert_weights.row_stride(),
        static_cast<const T*>(args.d_out.raw()), args.d_out.row_stride(), args.d_out.size(1),
        static_cast<T*>(args.d_expert_out.raw()), args.d_expert_out.row_stride(),
        args.d_expert_weights.data<float>(), args.d_expert_weights.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
