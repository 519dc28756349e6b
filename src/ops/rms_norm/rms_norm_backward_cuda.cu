// A block takes every gridDim.x-th row, each in registers (x, d_out and what d_x holds are read together, d_x
// is written once: bandwidth-bound), and keeps its share of d_weight in registers; the shares are added in a
// second kernel. hidden_size <= kCudaShapeLimits.hidden_size (checked before launch).
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
constexpr int kColumnsPerStep = 4 * kThreads;
constexpr int kFewSteps = 2;  // Nemotron-3-Nano's 2688 columns
constexpr int kMaxSteps = kCudaShapeLimits.hidden_size / kColumnsPerStep;
constexpr int64_t kMaxBlocks = 512;  // about four an H100's multiprocessor; fixed, as it sets the sums' order

// kSteps: fours of columns that a thread has.
template <int kSteps, typename T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_rows_backward(DeviceRows<const float> x, ParameterElements weight, float epsilon,
                           int64_t num_rows, int hidden_size, DeviceRows<const T> d_out,
                           DeviceRows<float> d_x, bool packed, float* d_weight_partials) {
  __shared__ float2 scratch[32];
  await_previous_kernel();
  float weights[kSteps][4] = {};
  float d_weight[kSteps][4] = {};
  const int first_column = static_cast<int>(threadIdx.x) * 4;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = first_column + step * kColumnsPerStep + i;
      if (column < hidden_size) weights[step][i] = weight[column];
    }
  }
  for (int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    float values[kSteps][4];
    float gradients[kSteps][4];
    float held[kSteps][4];
    float squares = 0;
    float products = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int column = first_column + step * kColumnsPerStep;
      if (column >= hidden_size) break;
      read_four(&x.at(row, 0), column, hidden_size, packed, values[step]);
      read_four(&d_out.at(row, 0), column, hidden_size, packed, gradients[step]);
      read_four(&d_x.at(row, 0), column, hidden_size, packed, held[step]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        squares += values[step][i] * values[step][i];
        products += gradients[step][i] * weights[step][i] * values[step][i];
      }
    }
    const auto count = static_cast<float>(hidden_size);
    const float2 sums = block_sums(squares, products, scratch);
    const float r = rsqrtf(sums.x / count + epsilon);
    const float along_x = r * r * r * (sums.y / count);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int column = first_column + step * kColumnsPerStep;
      if (column >= hidden_size) break;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        held[step][i] += r * gradients[step][i] * weights[step][i] - along_x * values[step][i];
        d_weight[step][i] += gradients[step][i] * values[step][i] * r;
      }
      write_four(&d_x.at(row, 0), column, hidden_size, packed, held[step]);
    }
  }
  if (d_weight_partials == nullptr) return;
  float* partials = d_weight_partials + static_cast<int64_t>(blockIdx.x) * hidden_size;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int column = first_column + step * kColumnsPerStep;
    if (column < hidden_size) write_four(partials, column, hidden_size, packed, d_weight[step]);
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
  const bool packed =
      rows_aligned_to<4>(args.x) && rows_aligned_to<4>(args.d_out) && rows_aligned_to<4>(args.d_x);
  dispatch_activation(args.d_out.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    context.stream().launch(hidden_size <= kFewSteps * kColumnsPerStep ? rms_norm_rows_backward<kFewSteps, T>
                                                                       : rms_norm_rows_backward<kMaxSteps, T>,
                            dim3(static_cast<unsigned>(num_blocks)), kThreads, 0, device_rows<float>(args.x),
                            parameter_elements(args.weight), args.epsilon, num_rows,
                            static_cast<int>(hidden_size), device_rows<T>(args.d_out),
                            device_rows<float>(args.d_x), packed, partials);
  });
  if (partials == nullptr) return;
  add_partial_sums(partials, num_blocks, hidden_size, hidden_size, args.d_weight.data<float>(),
                   context.stream());
}

}  // namespace nemoforge::ops
