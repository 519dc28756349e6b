// A block a row: the largest logit, the sum of the exponentials (each in f32, added in f64), and the
// gradient. The row is read three times and written once; the second and third reads come from the L2 cache.
#include "base/integers.h"
#include "ops/cross_entropy/cross_entropy_cuda.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;

__device__ double block_sum_f64(double value) {
  __shared__ double partial[kWarps];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();  // every warp's sum is written
  double sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += partial[warp];
  return sum;
}

__device__ float block_max(float value) {
  __shared__ float partial[kWarps];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();  // every warp's maximum is written
  float largest = partial[0];
  for (int warp = 1; warp < kWarps; ++warp) largest = fmaxf(largest, partial[warp]);
  return largest;
}

// d_logits null: the loss alone.
template <typename GradT>
__global__ void cross_entropy_rows(const float* logits, int64_t logits_stride, const int32_t* targets,
                                   int vocab_size, float scale, float* losses, GradT* d_logits,
                                   int64_t d_logits_stride) {
  const int64_t row = blockIdx.x;
  const float* values = logits + row * logits_stride;
  const int target = targets[row];
  if (target < 0 || target >= vocab_size) __trap();
  const float target_logit = values[target];
  float largest = -INFINITY;
  bool is_nan = false;  // fmaxf passes over it
  for (int i = static_cast<int>(threadIdx.x); i < vocab_size; i += kThreads) {
    largest = fmaxf(largest, values[i]);
    is_nan = is_nan || isnan(values[i]);
  }
  largest = block_max(largest);
  if (__syncthreads_or(is_nan)) largest = NAN;
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < vocab_size; i += kThreads) {
    sum += static_cast<double>(expf(values[i] - largest));
  }
  sum = block_sum_f64(sum);
  if (threadIdx.x == 0) {
    losses[row] =
        static_cast<float>(log(sum) + static_cast<double>(largest) - static_cast<double>(target_logit));
  }
  if (d_logits == nullptr) return;
  const auto factor = static_cast<float>(static_cast<double>(scale) / sum);
  GradT* gradients = d_logits + row * d_logits_stride;
  for (int i = static_cast<int>(threadIdx.x); i < vocab_size; i += kThreads) {
    const float gradient = expf(values[i] - largest) * factor;
    gradients[i] = from_float<GradT>(i == target ? gradient - scale : gradient);
  }
}

}  // namespace

void cross_entropy_cuda(const CrossEntropyArgs& args, CudaTrainingContext& context) {
  if (args.logits.size(0) == 0) return;
  dispatch_activation(args.d_logits ? args.d_logits.dtype() : DType::kF32, [&](auto tag) {
    using GradT = DeviceType<typename decltype(tag)::type>;
    cross_entropy_rows<<<static_cast<unsigned>(args.logits.size(0)), kThreads, 0, context.stream()>>>(
        args.logits.data<float>(), args.logits.row_stride(), args.targets.data<int32_t>(),
        narrow<int32_t>(args.logits.size(1)), args.scale, args.losses.data<float>(),
        static_cast<GradT*>(args.d_logits.raw()), args.d_logits ? args.d_logits.row_stride() : 0);
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
