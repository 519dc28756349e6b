// Squared ReLU, elementwise: 16 bytes a thread where rows are aligned to that, else one element.
#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/relu2/relu2.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 256;

template <int kPiece, typename T>
__global__ void relu2_rows(const T* x, int64_t x_stride, int64_t num_features, T* out, int64_t out_stride) {
  await_previous_kernel();
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPiece;
  if (column >= num_features) return;
  auto piece = *reinterpret_cast<const Pack<T, kPiece>*>(x + blockIdx.y * x_stride + column);
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    const float value = to_float(piece.values[i]);
    // Written so that NaN stays NaN.
    const float positive = value < 0.0f ? 0.0f : value;
    piece.values[i] = from_float<T>(positive * positive);
  }
  *reinterpret_cast<Pack<T, kPiece>*>(out + blockIdx.y * out_stride + column) = piece;
}

}  // namespace

void CudaBackend::relu2(const Relu2Args& args) {
  check(args);
  if (args.x.size(0) == 0) return;
  // Grid y is limited to 65,535 rows: longer inputs go in pieces.
  for (int64_t first = 0; first < args.x.size(0); first += 65535) {
    const int64_t num_rows = std::min<int64_t>(65535, args.x.size(0) - first);
    const ConstTensorView x = args.x.rows(first, num_rows);
    const TensorView out = args.out.rows(first, num_rows);
    dispatch_activation(x.dtype(), [&](auto tag) {
      using T = DeviceType<typename decltype(tag)::type>;
      constexpr int kWide = 16 / sizeof(T);
      const bool wide = rows_aligned_to<kWide>(x) && rows_aligned_to<kWide>(out);
      const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(x.size(1), kThreads * (wide ? kWide : 1))),
                      static_cast<unsigned>(num_rows));
      stream_.launch(wide ? relu2_rows<kWide, T> : relu2_rows<1, T>, grid, kThreads, 0,
                     static_cast<const T*>(x.raw()), x.row_stride(), x.size(1), static_cast<T*>(out.raw()),
                     out.row_stride());
    });
    CUDA_CHECK(cudaGetLastError());
  }
}

}  // namespace nemoforge::ops
