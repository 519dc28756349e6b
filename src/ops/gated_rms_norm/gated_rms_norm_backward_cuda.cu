// A block takes one group of every gridDim.x-th row, in registers (each input is read once, each gradient
// read and written once: bandwidth-bound), and keeps its share of d_weight in registers; the shares are added
// in a second kernel. channels / num_groups <= kCudaShapeLimits.norm_group_size (checked before launch).
#include <algorithm>

#include "ops/cuda_check.h"
#include "ops/cuda_shape_limits.h"
#include "ops/dtype_dispatch.h"
#include "ops/gated_rms_norm/gated_rms_norm_backward_cuda.h"
#include "ops/gradient_elements.cuh"
#include "ops/gradient_sums.h"

namespace nemoforge::ops {
namespace {

// Nemotron-3-Nano's groups of 512 channels: few threads with several loads each keep more blocks at work.
constexpr int kSmallThreads = 128;
constexpr int kSmallPerThread = 4;
constexpr int kThreads = 512;
constexpr int kPerThread = kCudaShapeLimits.norm_group_size / kThreads;
constexpr int64_t kMaxBlocks = 512;  // of a group; fixed, as it sets the order of d_weight's sums

template <int kBlockThreads, int kMaxPerThread, typename T>
__global__ void __launch_bounds__(kBlockThreads)
    gated_rms_norm_group_backward(DeviceRows<const float> y, DeviceRows<const T> z, ParameterElements weight,
                                  float epsilon, int64_t num_rows, int group_size, DeviceRows<const T> d_out,
                                  DeviceRows<T> d_y, DeviceRows<T> d_z, float* d_weight_partials) {
  __shared__ float scratch[32];
  await_previous_kernel();
  const int first_channel = static_cast<int>(blockIdx.y) * group_size;
  float d_weight[kMaxPerThread] = {};
  for (int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    float ys[kMaxPerThread];
    float zs[kMaxPerThread];
    float gradients[kMaxPerThread];
    float squares = 0;
    float products = 0;
#pragma unroll
    for (int i = 0; i < kMaxPerThread; ++i) {
      const int place = static_cast<int>(threadIdx.x) + i * kBlockThreads;
      if (place >= group_size) break;
      const int channel = first_channel + place;
      ys[i] = y.at(row, channel);
      zs[i] = to_float(z.at(row, channel));
      gradients[i] = to_float(d_out.at(row, channel));
      const float gated = ys[i] * silu(zs[i]);
      squares += gated * gated;
      products += gradients[i] * weight[channel] * gated;
    }
    const auto count = static_cast<float>(group_size);
    const float r = rsqrtf(block_sum(squares, scratch) / count + epsilon);
    const float along_gated = r * r * r * (block_sum(products, scratch) / count);
#pragma unroll
    for (int i = 0; i < kMaxPerThread; ++i) {
      const int place = static_cast<int>(threadIdx.x) + i * kBlockThreads;
      if (place >= group_size) break;
      const int channel = first_channel + place;
      const float s = 1.0f / (1.0f + expf(-zs[i]));
      const float gated = ys[i] * zs[i] * s;
      const float d_gated = r * gradients[i] * weight[channel] - along_gated * gated;
      add_to(d_y.at(row, channel), d_gated * zs[i] * s);
      add_to(d_z.at(row, channel), d_gated * ys[i] * s * (1.0f + zs[i] * (1.0f - s)));
      d_weight[i] += gradients[i] * gated * r;
    }
  }
  if (d_weight_partials == nullptr) return;
  const int channels = static_cast<int>(gridDim.y) * group_size;
#pragma unroll
  for (int i = 0; i < kMaxPerThread; ++i) {
    const int place = static_cast<int>(threadIdx.x) + i * kBlockThreads;
    if (place >= group_size) break;
    d_weight_partials[static_cast<int64_t>(blockIdx.x) * channels + first_channel + place] = d_weight[i];
  }
}

template <typename T>
void launch(const GatedRmsNormBackwardArgs& args, int64_t num_blocks, float* partials, OpStream& stream) {
  const int64_t group_size = args.y.size(1) / args.num_groups;
  const bool small = group_size <= kSmallThreads * kSmallPerThread;
  stream.launch(small ? gated_rms_norm_group_backward<kSmallThreads, kSmallPerThread, T>
                      : gated_rms_norm_group_backward<kThreads, kPerThread, T>,
                dim3(static_cast<unsigned>(num_blocks), static_cast<unsigned>(args.num_groups)),
                small ? kSmallThreads : kThreads, 0, device_rows<float>(args.y), device_rows<T>(args.z),
                parameter_elements(args.weight), args.epsilon, args.y.size(0), static_cast<int>(group_size),
                device_rows<T>(args.d_out), device_rows<T>(args.d_y), device_rows<T>(args.d_z), partials);
}

}  // namespace

void gated_rms_norm_backward_cuda(const GatedRmsNormBackwardArgs& args, CudaTrainingContext& context) {
  const int64_t channels = args.y.size(1);
  NF_CHECK(channels / args.num_groups <= kCudaShapeLimits.norm_group_size)
      << channels << " channels in " << args.num_groups << " groups";
  if (args.y.size(0) == 0 || channels == 0) return;
  const int64_t num_blocks = std::min(args.y.size(0), kMaxBlocks);
  float* partials = nullptr;
  if (args.d_weight) {
    partials =
        static_cast<float*>(context.memory(num_blocks * channels * static_cast<int64_t>(sizeof(float))));
  }
  dispatch_activation(args.z.dtype(), [&](auto tag) {
    launch<DeviceType<typename decltype(tag)::type>>(args, num_blocks, partials, context.stream());
  });
  if (partials == nullptr) return;
  add_partial_sums(partials, num_blocks, channels, channels, args.d_weight.data<float>(), context.stream());
}

}  // namespace nemoforge::ops
