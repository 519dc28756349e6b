// A block takes every gridDim.x-th row, each in registers (x and d_out are read once, d_x is read and written
// once: bandwidth-bound), and keeps its share of d_weight in registers; the shares are added in a second
// kernel. hidden_size <= kThreads * kMaxPerThread (checked before launch).
#include <algorithm>

#include "ops/cuda_check.h"
#include "ops/cuda_shape_limits.h"
#include "ops/dtype_dispatch.h"
#include "ops/gradient_elements.cuh"
#include "ops/gradient_sums.h"
#include "ops/rms_norm/rms_norm_backward_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 512;
constexpr int kMaxPerThread = 16;
static_assert(kThreads * kMaxPerThread == kCudaShapeLimits.hidden_size);
constexpr int64_t kMaxBlocks = 512;  // about four an H100's multiprocessor; fixed, as it sets the sums' order

template <typename OutGradientT>
__global__ void __launch_bounds__(kThreads)
    rms_norm_rows_backward(DeviceRows<const float> x, ParameterElements weight, float epsilon,
                           int64_t num_rows, int hidden_size, DeviceRows<const OutGradientT> d_out,
                           DeviceRows<float> d_x, float* d_weight_partials) {
  __shared__ float scratch[32];
  await_previous_kernel();
  float d_weight[kMaxPerThread] = {};
  for (int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    float values[kMaxPerThread];
    float gradients[kMaxPerThread];
    float squares = 0;
    float products = 0;
#pragma unroll
    for (int i = 0; i < kMaxPerThread; ++i) {
      const int column = static_cast<int>(threadIdx.x) + i * kThreads;
      if (column >= hidden_size) break;
      values[i] = x.at(row, column);
      gradients[i] = to_float(d_out.at(row, column));
      squares += values[i] * values[i];
      products += gradients[i] * weight[column] * values[i];
    }
    const auto count = static_cast<float>(hidden_size);
    const float r = rsqrtf(block_sum(squares, scratch) / count + epsilon);
    const float along_x = r * r * r * (block_sum(products, scratch) / count);
#pragma unroll
    for (int i = 0; i < kMaxPerThread; ++i) {
      const int column = static_cast<int>(threadIdx.x) + i * kThreads;
      if (column >= hidden_size) break;
      d_x.at(row, column) += r * gradients[i] * weight[column] - along_x * values[i];
      d_weight[i] += gradients[i] * values[i] * r;
    }
  }
  if (d_weight_partials == nullptr) return;
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i) {
    const int column = static_cast<int>(threadIdx.x) + i * kThreads;
    if (column >= hidden_size) break;
    d_weight_partials[static_cast<int64_t>(blockIdx.x) * hidden_size + column] = d_weight[i];
  }
}

}  // namespace

void rms_norm_backward_cuda(const RmsNormBackwardArgs& args, CudaTrainingContext& context) {
  const int64_t num_rows = args.x.size(0);
  const int64_t hidden_size = args.x.size(1);
  NF_CHECK(hidden_size <= kCudaShapeLimits.hidden_size) << hidden_size << " columns";
  if (num_rows == 0 || hidden_size == 0) return;
  const int64_t num_blocks = std::min(num_rows, kMaxBlocks);
  float* partials = nullptr;
  if (args.d_weight) {
    partials =
        static_cast<float*>(context.memory(num_blocks * hidden_size * static_cast<int64_t>(sizeof(float))));
  }
  dispatch_activation(args.d_out.dtype(), [&](auto tag) {
    using OutGradientT = DeviceType<typename decltype(tag)::type>;
    context.stream().launch(rms_norm_rows_backward<OutGradientT>, dim3(static_cast<unsigned>(num_blocks)),
                            kThreads, 0, device_rows<float>(args.x), parameter_elements(args.weight),
                            args.epsilon, num_rows, static_cast<int>(hidden_size),
                            device_rows<OutGradientT>(args.d_out), device_rows<float>(args.d_x), partials);
  });
  if (partials == nullptr) return;
  add_partial_sums(partials, num_blocks, hidden_size, hidden_size, args.d_weight.data<float>(),
                   context.stream());
}

}  // namespace nemoforge::ops
