// The selective scan as the recurrence, for decode and prefill alike. A block owns kRowsPerBlock channels of
// one head of one sequence, a warp kRowsPerWarp of them with the state in registers (lanes along state_size),
// and walks the sequence's rows. Decode is bandwidth-bound on the state (read and written once). state_size
// <= 32 * kMaxPerLane (checked before launch).
#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/ssd_scan/ssd_scan.h"
#include "ops/ssd_scan/ssd_scan_prefill_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kWarps = 4;
constexpr int kRowsPerWarp = 4;
constexpr int kRowsPerBlock = kWarps * kRowsPerWarp;
constexpr int kMaxPerLane = kCudaShapeLimits.ssm_state_size / 32;

template <typename T>
struct Rows {
  const T* data;
  int64_t stride;
};

struct ScanShape {
  int head_dim;
  int state_size;
  int heads_per_group;
  int num_heads;
};

struct ScanSequences {
  const int32_t* cu_seqlens;
  const int32_t* context_lens;
  const int32_t* state_slots;
};

struct HeadParameters {
  const float* a_log;
  const float* d;
  const float* dt_bias;
};

// kPerLane: columns of the state a lane holds of each channel.
template <int kPerLane, typename T, typename OutT>
__global__ void scan_rows(ScanShape shape, ScanSequences sequences, HeadParameters parameters, Rows<T> x,
                          Rows<T> b, Rows<T> c, Rows<T> dt_raw, float* ssm_state, OutT* y, int64_t y_stride) {
  await_previous_kernel();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_channel = static_cast<int>(blockIdx.x) * kRowsPerBlock + warp * kRowsPerWarp;
  const int head = static_cast<int>(blockIdx.y);
  const int sequence = static_cast<int>(blockIdx.z);
  const int group = head / shape.heads_per_group;
  const int begin = sequences.cu_seqlens[sequence];
  const int end = sequences.cu_seqlens[sequence + 1];
  const float a = -expf(parameters.a_log[head]);
  const float d = parameters.d[head];
  const float dt_bias = parameters.dt_bias[head];

  float* state_of_head =
      ssm_state == nullptr
          ? nullptr
          : ssm_state + (static_cast<int64_t>(sequences.state_slots[sequence]) * shape.num_heads + head) *
                            shape.head_dim * shape.state_size;
  const bool resumes = state_of_head != nullptr && sequences.context_lens[sequence] > 0;
  float state[kRowsPerWarp][kPerLane];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int n = lane + i * 32;
      const bool inside = n < shape.state_size && first_channel + r < shape.head_dim;
      state[r][i] = resumes && inside
                        ? state_of_head[static_cast<int64_t>(first_channel + r) * shape.state_size + n]
                        : 0.0f;
    }
  }

  for (int row = begin; row < end; ++row) {
    const float dt = softplus(to_float(dt_raw.data[row * dt_raw.stride + head]) + dt_bias);
    const float decay = expf(a * dt);
    float b_values[kPerLane];
    float c_values[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int n = lane + i * 32;
      const bool inside = n < shape.state_size;
      const int column = group * shape.state_size + n;
      b_values[i] = inside ? to_float(b.data[row * b.stride + column]) : 0.0f;
      c_values[i] = inside ? to_float(c.data[row * c.stride + column]) : 0.0f;
    }
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const int channel = first_channel + r;
      const float x_value = channel < shape.head_dim
                                ? to_float(x.data[row * x.stride + head * shape.head_dim + channel])
                                : 0.0f;
      const float input = dt * x_value;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        state[r][i] = decay * state[r][i] + input * b_values[i];
        sum += state[r][i] * c_values[i];
      }
      sum = warp_sum(sum);
      if (lane == r && channel < shape.head_dim) {
        y[row * y_stride + head * shape.head_dim + channel] = from_float<OutT>(sum + d * x_value);
      }
    }
  }

  if (state_of_head == nullptr) return;
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int n = lane + i * 32;
      if (n >= shape.state_size || first_channel + r >= shape.head_dim) continue;
      state_of_head[static_cast<int64_t>(first_channel + r) * shape.state_size + n] = state[r][i];
    }
  }
}

}  // namespace

void CudaBackend::ssd_scan(const SsdScanArgs& args) {
  check(args);
  const RaggedRows& rows = *args.rows;
  if (rows.num_tokens == 0) return;
  NF_CHECK(args.state_size <= 32 * kMaxPerLane) << args.state_size;
  NF_CHECK(args.b.dtype() == args.x.dtype() && args.c.dtype() == args.x.dtype() &&
           args.dt_raw.dtype() == args.x.dtype())
      << "x, B, C and dt have one dtype on the GPU";
  NF_CHECK(args.num_heads <= 65535 && rows.num_sequences <= 65535)
      << args.num_heads << ", " << rows.num_sequences;
  const int64_t num_sequences = ssd_scan_prefill(args, stream_) ? rows.num_decode : rows.num_sequences;
  if (num_sequences == 0) return;
  const ScanShape shape{static_cast<int>(args.head_dim), static_cast<int>(args.state_size),
                        static_cast<int>(args.num_heads / args.num_groups), static_cast<int>(args.num_heads)};
  const ScanSequences sequences{rows.cu_seqlens.data<int32_t>(), rows.context_lens.data<int32_t>(),
                                rows.state_slots ? rows.state_slots.data<int32_t>() : nullptr};
  const HeadParameters parameters{args.a_log.data<float>(), args.d.data<float>(), args.dt_bias.data<float>()};
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.head_dim, kRowsPerBlock)),
                  static_cast<unsigned>(args.num_heads), static_cast<unsigned>(num_sequences));
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    dispatch_activation(args.y.dtype(), [&](auto out_tag) {
      using T = DeviceType<typename decltype(tag)::type>;
      using OutT = DeviceType<typename decltype(out_tag)::type>;
      const auto view = [](const ConstTensorView& tensor) {
        return Rows<T>{static_cast<const T*>(tensor.raw()), tensor.row_stride()};
      };
      const auto kernel = args.state_size <= 128 ? scan_rows<4, T, OutT> : scan_rows<kMaxPerLane, T, OutT>;
      stream_.launch(kernel, grid, kWarps * 32, 0, shape, sequences, parameters, view(args.x), view(args.b),
                     view(args.c), view(args.dt_raw), args.ssm_state ? args.ssm_state.data<float>() : nullptr,
                     static_cast<OutT*>(args.y.raw()), args.y.row_stride());
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
