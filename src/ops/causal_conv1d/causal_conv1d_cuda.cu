// Causal depthwise convolution. A thread owns one channel of one sequence and walks kRowsPerBlock rows with
// the last taps in registers. Where no sequence has more rows than that (decode), the thread then rolls its
// channel of the state; else a second kernel does, after every block of the first has read it.
// Bytes moved: x and out once, (conv_kernel - 1) / kRowsPerBlock of x again.
#include "base/integers.h"
#include "ops/causal_conv1d/causal_conv1d.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 128;
constexpr int kRowsPerBlock = 64;
constexpr int kMaxTaps = 8;  // conv_kernel's limit in the contract

struct ConvRows {
  const int32_t* cu_seqlens;
  const int32_t* context_lens;
  const int32_t* state_slots;
};

// The input at `position` rows from the sequence's first row here; negative positions are in the state.
template <typename XT>
__device__ float input_at(const XT* x, int64_t x_stride, const XT* state, int state_rows, int channels,
                          int channel, int first_row, int position) {
  if (position >= 0) return to_float(x[(first_row + position) * x_stride + channel]);
  if (state == nullptr) return 0.0f;
  return to_float(state[static_cast<int64_t>(state_rows + position) * channels + channel]);
}

// The last conv_kernel - 1 inputs of the channel become its state.
template <typename XT>
__device__ void roll_channel(const ConvRows& rows, int sequence, const XT* x, int64_t x_stride,
                             int conv_kernel, XT* conv_state, int channels, int channel) {
  const int first_row = rows.cu_seqlens[sequence];
  const int num_rows = rows.cu_seqlens[sequence + 1] - first_row;
  const int state_rows = conv_kernel - 1;
  XT* state = conv_state + static_cast<int64_t>(rows.state_slots[sequence]) * state_rows * channels;
  const XT* old_state = rows.context_lens[sequence] > 0 ? state : nullptr;
  // Rising order: row i of the new state is row i + num_rows of the old one, which is not overwritten yet.
  for (int i = 0; i < state_rows; ++i) {
    state[static_cast<int64_t>(i) * channels + channel] = from_float<XT>(input_at(
        x, x_stride, old_state, state_rows, channels, channel, first_row, num_rows - state_rows + i));
  }
}

// A grid of one block along z rolls the state too.
template <typename XT, typename WeightT, typename OutT>
__global__ void convolve(ConvRows rows, const XT* x, int64_t x_stride, const WeightT* weight,
                         const WeightT* bias, int conv_kernel, XT* conv_state, int channels, OutT* out,
                         int64_t out_stride) {
  await_previous_kernel();
  const int channel = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const int sequence = static_cast<int>(blockIdx.y);
  const int first_row = rows.cu_seqlens[sequence];
  const int num_rows = rows.cu_seqlens[sequence + 1] - first_row;
  const int begin = static_cast<int>(blockIdx.z) * kRowsPerBlock;
  const bool rolls = conv_state != nullptr && gridDim.z == 1;
  if (channel >= channels || (begin >= num_rows && !rolls)) return;
  const int end = min(begin + kRowsPerBlock, num_rows);
  const int state_rows = conv_kernel - 1;
  const XT* state =
      conv_state != nullptr && rows.context_lens[sequence] > 0
          ? conv_state + static_cast<int64_t>(rows.state_slots[sequence]) * state_rows * channels
          : nullptr;
  float taps[kMaxTaps];
  float window[kMaxTaps];
#pragma unroll
  for (int k = 0; k < kMaxTaps; ++k) {
    if (k >= conv_kernel) break;
    taps[k] = to_float(weight[channel * conv_kernel + k]);
    if (k > 0) {
      window[k] =
          input_at(x, x_stride, state, state_rows, channels, channel, first_row, begin - conv_kernel + k);
    }
  }
  const float offset = bias == nullptr ? 0.0f : to_float(bias[channel]);
  for (int row = begin; row < end; ++row) {
    float sum = offset;
#pragma unroll
    for (int k = 0; k < kMaxTaps; ++k) {
      if (k >= conv_kernel) break;
      window[k] = k + 1 < conv_kernel ? window[k + 1] : to_float(x[(first_row + row) * x_stride + channel]);
      sum += taps[k] * window[k];
    }
    out[(first_row + row) * out_stride + channel] = from_float<OutT>(silu(sum));
  }
  if (rolls) roll_channel(rows, sequence, x, x_stride, conv_kernel, conv_state, channels, channel);
}

template <typename XT>
__global__ void roll_state(ConvRows rows, const XT* x, int64_t x_stride, int conv_kernel, XT* conv_state,
                           int channels) {
  await_previous_kernel();
  const int channel = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (channel >= channels) return;
  roll_channel(rows, static_cast<int>(blockIdx.y), x, x_stride, conv_kernel, conv_state, channels, channel);
}

}  // namespace

void CudaBackend::causal_conv1d(const CausalConv1dArgs& args) {
  check(args);
  const RaggedRows& ragged = *args.rows;
  const auto channels = static_cast<int>(args.weight.size(0));
  const auto conv_kernel = static_cast<int>(args.weight.size(1));
  NF_CHECK(ragged.num_sequences <= 65535) << ragged.num_sequences;
  const ConvRows rows{ragged.cu_seqlens.data<int32_t>(), ragged.context_lens.data<int32_t>(),
                      ragged.state_slots ? ragged.state_slots.data<int32_t>() : nullptr};
  const dim3 grid(static_cast<unsigned>(ceil_div(channels, kThreads)),
                  static_cast<unsigned>(ragged.num_sequences),
                  static_cast<unsigned>(ceil_div<int64_t>(ragged.max_query_len, kRowsPerBlock)));
  dispatch_activation(args.x.dtype(), [&](auto x_tag) {
    using XT = DeviceType<typename decltype(x_tag)::type>;
    const auto* x = static_cast<const XT*>(args.x.raw());
    auto* state = static_cast<XT*>(args.conv_state.raw());
    // Without rows there is nothing to convolve, but the states of sequences that begin here become zeros.
    if (ragged.num_tokens > 0)
      dispatch_weight(args.weight.dtype(), [&](auto weight_tag) {
        dispatch_activation(args.out.dtype(), [&](auto out_tag) {
          using WeightT = DeviceType<typename decltype(weight_tag)::type>;
          using OutT = DeviceType<typename decltype(out_tag)::type>;
          stream_.launch(convolve<XT, WeightT, OutT>, grid, kThreads, 0, rows, x, args.x.row_stride(),
                         static_cast<const WeightT*>(args.weight.raw()),
                         static_cast<const WeightT*>(args.bias.raw()), conv_kernel, state, channels,
                         static_cast<OutT*>(args.out.raw()), args.out.row_stride());
        });
      });
    CUDA_CHECK(cudaGetLastError());
    if (state != nullptr && (ragged.num_tokens == 0 || grid.z > 1)) {
      stream_.launch(roll_state<XT>, dim3(grid.x, grid.y), kThreads, 0, rows, x, args.x.row_stride(),
                     conv_kernel, state, channels);
      CUDA_CHECK(cudaGetLastError());
    }
  });
}

}  // namespace nemoforge::ops
