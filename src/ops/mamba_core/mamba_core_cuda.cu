// A decode step's convolution, scan and gated norm in one kernel. A block owns one head of one sequence: it
// convolves the head's channels and the group's B and C (each head again: 256 channels of four taps), takes
// the state's step with the state in registers, and gates. The heads of a group are a cluster of blocks: the
// norm's sum of squares passes through their shared memory. Floor: the bytes of the state, read and written
// once (4.2 MB a sequence and layer of Nemotron-3-Nano).
//
// What costs is latency: all loads that depend on nothing are under way at once, and the blocks of a cluster
// meet once, after each has put its sum into the shared memory of the others.
//
// Needs clusters (sm_90 or later), no more than 8 heads a group and kMaxHeadDim channels a head; anything
// else goes through the three ops (fits() says).
#include <cooperative_groups.h>

#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/mamba_core/mamba_core.h"

namespace nemoforge::ops {
namespace {

constexpr int kWarps = 16;
constexpr int kThreads = 32 * kWarps;
constexpr int kRowsPerWarp = 4;
constexpr int kMaxHeadDim = kWarps * kRowsPerWarp;
constexpr int kPerLane = 4;  // columns of the state that a lane holds of each channel
constexpr int kMaxStateSize = 32 * kPerLane;
constexpr int kMaxTaps = 8;   // conv_kernel's limit in the contract
constexpr int kMaxHeads = 8;  // of a group: what every device allows in a cluster
constexpr int kMaxChannels = kMaxHeadDim + 2 * kMaxStateSize;  // of the convolution: one a thread
static_assert(kMaxChannels <= kThreads);

struct CoreShape {
  int num_heads, head_dim, heads_per_group, num_groups, state_size, conv_kernel;
  int num_channels;  // of the convolution
  float epsilon;
};

// Of the sequences that decode: row i is the one of sequence i.
template <typename T>
struct CoreRows {
  const int32_t* context_lens;
  const int32_t* state_slots;
  const T* conv_in;
  const T* dt_raw;
  const T* z;
  int64_t conv_in_stride, dt_stride, z_stride;
};

struct CoreWeights {
  const float* conv_weight;
  const float* conv_bias;  // null: none
  const float* a_log;
  const float* d;
  const float* dt_bias;
  const float* norm_weight;
};

#if __CUDA_ARCH__ >= 900 || !defined(__CUDA_ARCH__)
// The channel of the convolution that is the block's `place`-th: its head's, then its group's B and C; -1
// beyond them.
__device__ int channel_of(const CoreShape& shape, int head, int group, int place) {
  if (place < shape.head_dim) return head * shape.head_dim + place;
  const int of_bc = place - shape.head_dim;
  if (of_bc >= 2 * shape.state_size) return -1;
  const int inner = shape.num_heads * shape.head_dim;
  const int which = of_bc / shape.state_size;  // 0: B, 1: C
  return inner + (which * shape.num_groups + group) * shape.state_size + of_bc % shape.state_size;
}

// The state of one head of one sequence: this warp's channels, a column in every 32nd place of a lane.
struct HeadState {
  float values[kRowsPerWarp][kPerLane];
};

__device__ bool is_inside(const CoreShape& shape, int channel, int n) {
  return channel < shape.head_dim && n < shape.state_size;
}

__device__ HeadState load_state(const CoreShape& shape, const float* of_head, bool resumes) {
  HeadState state;
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int channel = static_cast<int>(threadIdx.x) / 32 * kRowsPerWarp + r;
      const int n = static_cast<int>(threadIdx.x) % 32 + i * 32;
      state.values[r][i] =
          resumes && is_inside(shape, channel, n) ? of_head[channel * shape.state_size + n] : 0.0f;
    }
  }
  return state;
}

__device__ void store_state(const CoreShape& shape, const HeadState& state, float* of_head) {
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int channel = static_cast<int>(threadIdx.x) / 32 * kRowsPerWarp + r;
      const int n = static_cast<int>(threadIdx.x) % 32 + i * 32;
      if (is_inside(shape, channel, n)) of_head[channel * shape.state_size + n] = state.values[r][i];
    }
  }
}

// One step of the recurrence with the convolved x | B | C in shared memory; y of this warp's channels goes to
// `y`.
__device__ void step_state(const CoreShape& shape, const float* convolved, float dt, float decay, float d,
                           HeadState& state, float* y) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float* b = convolved + shape.head_dim;
  const float* c = b + shape.state_size;
  float b_values[kPerLane];
  float c_values[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int n = lane + i * 32;
    b_values[i] = n < shape.state_size ? b[n] : 0.0f;
    c_values[i] = n < shape.state_size ? c[n] : 0.0f;
  }
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    const int channel = static_cast<int>(threadIdx.x) / 32 * kRowsPerWarp + r;
    const float x = channel < shape.head_dim ? convolved[channel] : 0.0f;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      state.values[r][i] = decay * state.values[r][i] + dt * x * b_values[i];
      sum += state.values[r][i] * c_values[i];
    }
    sum = warp_sum(sum);
    if (lane == r && channel < shape.head_dim) y[channel] = sum + d * x;
  }
}

#endif

// kTaps: conv_kernel is no more.
template <int kTaps, typename T>
__global__ void __launch_bounds__(kThreads, 2)
    core_of_head(CoreShape shape, CoreRows<T> rows, CoreWeights weights, T* conv_state, float* ssm_state,
                 T* out, int64_t out_stride) {
#if __CUDA_ARCH__ >= 900 || !defined(__CUDA_ARCH__)
  __shared__ float convolved[kMaxChannels];
  __shared__ float y[kMaxHeadDim];
  __shared__ float sums[kMaxHeads];  // of squares, of every head of the group
  __shared__ float scratch[32];
  const auto cluster = cooperative_groups::this_cluster();
  const int thread = static_cast<int>(threadIdx.x);
  const int head = static_cast<int>(blockIdx.x);
  const int64_t row = blockIdx.y;
  const int group = head / shape.heads_per_group;
  const int head_in_group = head % shape.heads_per_group;
  const int state_rows = shape.conv_kernel - 1;
  const int channel = channel_of(shape, head, group, thread);
  const bool is_head_channel = thread < shape.head_dim;
  const int head_channel = head * shape.head_dim + thread;

  float taps[kTaps];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    taps[k] =
        channel >= 0 && k < shape.conv_kernel ? weights.conv_weight[channel * shape.conv_kernel + k] : 0.0f;
  }
  const float offset = channel < 0 || weights.conv_bias == nullptr ? 0.0f : weights.conv_bias[channel];
  const float a = -expf(weights.a_log[head]);
  const float d = weights.d[head];
  const float dt_bias = weights.dt_bias[head];
  const float norm_weight = is_head_channel ? weights.norm_weight[head_channel] : 0.0f;
  await_previous_kernel();
  cluster.barrier_arrive();  // the other blocks may write to this one's shared memory

  const int64_t slot = rows.state_slots[row];
  const bool resumes = rows.context_lens[row] > 0;
  T* rolling = conv_state + slot * state_rows * shape.num_channels + channel;
  float* state_of_head = ssm_state + (slot * shape.num_heads + head) * shape.head_dim * shape.state_size;
  float window[kTaps];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    window[k] = channel >= 0 && k < state_rows && resumes ? to_float(rolling[k * shape.num_channels]) : 0.0f;
  }
  const float input = channel >= 0 ? to_float(rows.conv_in[row * rows.conv_in_stride + channel]) : 0.0f;
  const float dt_raw = to_float(rows.dt_raw[row * rows.dt_stride + head]);
  const float z = is_head_channel ? to_float(rows.z[row * rows.z_stride + head_channel]) : 0.0f;
  HeadState state = load_state(shape, state_of_head, resumes);

  float convolution = offset;
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    if (k == state_rows) window[k] = input;
    convolution += taps[k] * window[k];
  }
  if (channel >= 0) convolved[thread] = to_float(from_float<T>(silu(convolution)));
  __syncthreads();  // the convolved channels are written
  const float dt = softplus(dt_raw + dt_bias);
  step_state(shape, convolved, dt, expf(a * dt), d, state, y);
  __syncthreads();  // the head's y is written
  const float gated = is_head_channel ? y[thread] * silu(z) : 0.0f;
  const float sum = block_sum(gated * gated, scratch);
  cluster.barrier_wait();  // every block of the cluster has begun
  if (thread < shape.heads_per_group) {
    *cluster.map_shared_rank(sums + head_in_group, static_cast<unsigned>(thread)) = sum;
  }
  cluster.sync();  // all sums are there, and every head has read the B and C of before

  store_state(shape, state, state_of_head);
  // The first head of the group rolls the channels of B and C; each its own.
  if (channel >= 0 && (is_head_channel || head_in_group == 0)) {
#pragma unroll
    for (int k = 0; k + 1 < kTaps; ++k) {
      if (k < state_rows) rolling[k * shape.num_channels] = from_float<T>(window[k + 1]);
    }
  }
  float sum_of_squares = 0;
  for (int other = 0; other < shape.heads_per_group; ++other) sum_of_squares += sums[other];
  const auto group_size = static_cast<float>(shape.heads_per_group * shape.head_dim);
  const float scale = rsqrtf(sum_of_squares / group_size + shape.epsilon);
  if (is_head_channel) out[row * out_stride + head_channel] = from_float<T>(gated * scale * norm_weight);
#endif
}

bool fits(const MambaCoreArgs& args, const OpStream& stream) {
  const RaggedRows& rows = *args.conv.rows;
  const SsdScanArgs& scan = args.scan;
  const DType dtype = args.conv.x.dtype();
  const bool one_dtype = args.conv.out.dtype() == dtype && scan.dt_raw.dtype() == dtype &&
                         args.norm.z.dtype() == dtype && args.norm.out.dtype() == dtype;
  const bool plain_weights = args.conv.weight.dtype() == DType::kF32 &&
                             args.norm.weight.dtype() == DType::kF32 &&
                             (!args.conv.bias || args.conv.bias.dtype() == DType::kF32);
  return stream.has_clusters() && rows.num_decode == rows.num_sequences && rows.num_sequences <= 65535 &&
         one_dtype && plain_weights && scan.y.dtype() == DType::kF32 && args.conv.conv_state &&
         scan.ssm_state && scan.num_heads / scan.num_groups <= kMaxHeads && scan.head_dim <= kMaxHeadDim &&
         scan.state_size <= kMaxStateSize && args.norm.num_groups == scan.num_groups;
}

}  // namespace

void CudaBackend::mamba_core(const MambaCoreArgs& args) {
  check(args);
  if (!fits(args, stream_)) return Backend::mamba_core(args);
  const SsdScanArgs& scan = args.scan;
  const RaggedRows& ragged = *args.conv.rows;
  const CoreShape shape{.num_heads = static_cast<int>(scan.num_heads),
                        .head_dim = static_cast<int>(scan.head_dim),
                        .heads_per_group = static_cast<int>(scan.num_heads / scan.num_groups),
                        .num_groups = static_cast<int>(scan.num_groups),
                        .state_size = static_cast<int>(scan.state_size),
                        .conv_kernel = static_cast<int>(args.conv.weight.size(1)),
                        .num_channels = static_cast<int>(args.conv.weight.size(0)),
                        .epsilon = args.norm.epsilon};
  const CoreWeights weights{
      args.conv.weight.data<float>(), args.conv.bias ? args.conv.bias.data<float>() : nullptr,
      scan.a_log.data<float>(),       scan.d.data<float>(),
      scan.dt_bias.data<float>(),     args.norm.weight.data<float>()};
  const dim3 grid(static_cast<unsigned>(scan.num_heads), static_cast<unsigned>(ragged.num_decode));
  dispatch_activation(args.conv.x.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    const CoreRows<T> rows{.context_lens = ragged.context_lens.data<int32_t>(),
                           .state_slots = ragged.state_slots.data<int32_t>(),
                           .conv_in = static_cast<const T*>(args.conv.x.raw()),
                           .dt_raw = static_cast<const T*>(scan.dt_raw.raw()),
                           .z = static_cast<const T*>(args.norm.z.raw()),
                           .conv_in_stride = args.conv.x.row_stride(),
                           .dt_stride = scan.dt_raw.row_stride(),
                           .z_stride = args.norm.z.row_stride()};
    const auto kernel = shape.conv_kernel <= 4 ? core_of_head<4, T> : core_of_head<kMaxTaps, T>;
    stream_.launch_clusters(kernel, shape.heads_per_group, grid, kThreads, shape, rows, weights,
                            static_cast<T*>(args.conv.conv_state.raw()), scan.ssm_state.data<float>(),
                            static_cast<T*>(args.norm.out.raw()), args.norm.out.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
