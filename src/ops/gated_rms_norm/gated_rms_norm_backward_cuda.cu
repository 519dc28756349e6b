// A block takes one group of every gridDim.x-th row, in registers (inputs and what the gradients hold are
// read together, the gradients are written once: bandwidth-bound), and keeps its share of d_weight in
// registers; the shares are added in a second kernel. channels / num_groups <=
// kCudaShapeLimits.norm_group_size (checked before launch).
#include <algorithm>

#include "ops/cuda_check.h"
#include "ops/cuda_shape_limits.h"
#include "ops/dtype_dispatch.h"
#include "ops/gated_rms_norm/gated_rms_norm_backward_cuda.h"
#include "ops/gradient_elements.cuh"
#include "ops/gradient_sums.h"

namespace nemoforge::ops {
namespace {

// A small group (Nemotron-3-Nano's have 512 channels) has one four of channels a thread.
constexpr int kSmallThreads = 128;
constexpr int kThreads = 512;
constexpr int kMaxSteps = kCudaShapeLimits.norm_group_size / (4 * kThreads);
constexpr int64_t kMaxBlocks = 512;  // of a group; fixed, as it sets the order of d_weight's sums

template <typename T>
struct NormProblem {
  DeviceRows<const float> y;
  DeviceRows<const T> z;
  DeviceRows<const T> d_out;
  DeviceRows<T> d_y;
  DeviceRows<T> d_z;
  ParameterElements weight;
  float epsilon;
  int64_t num_rows;
  int group_size;
  bool packed;               // groups of rows are made of aligned fours
  float* d_weight_partials;  // [gridDim.x, channels]; null where not wanted
};

// Four channels of a row: what is read of them.
struct Channels {
  float y[4], z[4], d_out[4], d_y[4], d_z[4];
};

// kSteps: fours of channels that a thread has.
template <int kBlockThreads, int kSteps, typename T>
__global__ void __launch_bounds__(kBlockThreads) gated_rms_norm_group_backward(NormProblem<T> problem) {
  __shared__ float2 scratch[32];
  await_previous_kernel();
  const int size = problem.group_size;
  const bool packed = problem.packed;
  const int64_t group = static_cast<int64_t>(blockIdx.y) * size;
  const int first_channel = static_cast<int>(threadIdx.x) * 4;
  float weights[kSteps][4] = {};
  float d_weight[kSteps][4] = {};
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int channel = first_channel + step * 4 * kBlockThreads + i;
      if (channel < size) weights[step][i] = problem.weight[group + channel];
    }
  }
  for (int64_t row = blockIdx.x; row < problem.num_rows; row += gridDim.x) {
    Channels own[kSteps];
    float squares = 0;
    float products = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int channel = first_channel + step * 4 * kBlockThreads;
      if (channel >= size) break;
      read_four(&problem.y.at(row, group), channel, size, packed, own[step].y);
      read_four(&problem.z.at(row, group), channel, size, packed, own[step].z);
      read_four(&problem.d_out.at(row, group), channel, size, packed, own[step].d_out);
      read_four(&problem.d_y.at(row, group), channel, size, packed, own[step].d_y);
      read_four(&problem.d_z.at(row, group), channel, size, packed, own[step].d_z);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float gated = own[step].y[i] * silu(own[step].z[i]);
        squares += gated * gated;
        products += own[step].d_out[i] * weights[step][i] * gated;
      }
    }
    const auto count = static_cast<float>(size);
    const float2 sums = block_sums(squares, products, scratch);
    const float r = rsqrtf(sums.x / count + problem.epsilon);
    const float along_gated = r * r * r * (sums.y / count);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int channel = first_channel + step * 4 * kBlockThreads;
      if (channel >= size) break;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float z = own[step].z[i];
        const float s = 1.0f / (1.0f + expf(-z));
        const float gated = own[step].y[i] * z * s;
        const float d_gated = r * own[step].d_out[i] * weights[step][i] - along_gated * gated;
        own[step].d_y[i] += d_gated * z * s;
        own[step].d_z[i] += d_gated * own[step].y[i] * s * (1.0f + z * (1.0f - s));
        d_weight[step][i] += own[step].d_out[i] * gated * r;
      }
      write_four(&problem.d_y.at(row, group), channel, size, packed, own[step].d_y);
      write_four(&problem.d_z.at(row, group), channel, size, packed, own[step].d_z);
    }
  }
  if (problem.d_weight_partials == nullptr) return;
  float* partials = problem.d_weight_partials + static_cast<int64_t>(blockIdx.x) * gridDim.y * size + group;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int channel = first_channel + step * 4 * kBlockThreads;
    if (channel < size) write_four(partials, channel, size, packed, d_weight[step]);
  }
}

template <typename T>
void launch(const GatedRmsNormBackwardArgs& args, int64_t num_blocks, float* partials, OpStream& stream) {
  const int64_t group_size = args.y.size(1) / args.num_groups;
  const bool packed = group_size % 4 == 0 && rows_aligned_to<4>(args.y) && rows_aligned_to<4>(args.z) &&
                      rows_aligned_to<4>(args.d_out) && rows_aligned_to<4>(args.d_y) &&
                      rows_aligned_to<4>(args.d_z);
  const NormProblem<T> problem{device_rows<float>(args.y),
                               device_rows<T>(args.z),
                               device_rows<T>(args.d_out),
                               device_rows<T>(args.d_y),
                               device_rows<T>(args.d_z),
                               parameter_elements(args.weight),
                               args.epsilon,
                               args.y.size(0),
                               static_cast<int>(group_size),
                               packed,
                               partials};
  const bool small = group_size <= 4 * kSmallThreads;
  stream.launch(small ? gated_rms_norm_group_backward<kSmallThreads, 1, T>
                      : gated_rms_norm_group_backward<kThreads, kMaxSteps, T>,
                dim3(static_cast<unsigned>(num_blocks), static_cast<unsigned>(args.num_groups)),
                small ? kSmallThreads : kThreads, 0, problem);
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
