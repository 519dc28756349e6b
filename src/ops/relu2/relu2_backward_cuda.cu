// Elementwise: 16 bytes a thread where rows are aligned to that, else one element.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/relu2/relu2_backward_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 256;

template <int kPiece, typename T>
__global__ void relu2_backward_rows(const T* x, int64_t x_stride, const T* d_out, int64_t d_out_stride,
                                    int64_t num_features, T* d_x, int64_t d_x_stride) {
  const int64_t row = blockIdx.x;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kPiece;
  if (column >= num_features) return;
  const auto values = *reinterpret_cast<const Pack<T, kPiece>*>(x + row * x_stride + column);
  const auto gradients = *reinterpret_cast<const Pack<T, kPiece>*>(d_out + row * d_out_stride + column);
  auto* target = reinterpret_cast<Pack<T, kPiece>*>(d_x + row * d_x_stride + column);
  Pack<T, kPiece> sums = *target;
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    const float slope = 2 * fmaxf(to_float(values.values[i]), 0.0f);
    sums.values[i] = from_float<T>(to_float(sums.values[i]) + slope * to_float(gradients.values[i]));
  }
  *target = sums;
}

}  // namespace

void relu2_backward_cuda(const Relu2BackwardArgs& args, CudaTrainingContext& context) {
  if (args.x.numel() == 0) return;
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    constexpr int kWide = 16 / sizeof(T);
    const bool wide = rows_aligned_to<kWide>(args.x) && rows_aligned_to<kWide>(args.d_out) &&
                      rows_aligned_to<kWide>(args.d_x);
    const dim3 grid(static_cast<unsigned>(args.x.size(0)),
                    static_cast<unsigned>(ceil_div<int64_t>(args.x.size(1), kThreads * (wide ? kWide : 1))));
    const auto kernel = wide ? relu2_backward_rows<kWide, T> : relu2_backward_rows<1, T>;
    kernel<<<grid, kThreads, 0, context.stream()>>>(
        static_cast<const T*>(args.x.raw()), args.x.row_stride(), static_cast<const T*>(args.d_out.raw()),
        args.d_out.row_stride(), args.x.size(1), static_cast<T*>(args.d_x.raw()), args.d_x.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
