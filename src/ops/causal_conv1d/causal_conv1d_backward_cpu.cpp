#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/causal_conv1d/causal_conv1d_backward_cpu.cpp"
#include <algorithm>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/integers.h"
#include "ops/causal_conv1d/causal_conv1d_backward.h"
#include "ops/cpu_training_backend.h"
#include "ops/host_rows.h"
#include "ops/parameter_values.h"
#include "ops/simd_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Channels of a task: four vectors of AVX-512, side by side through all rows.
constexpr int64_t kChannelBlock = 64;
constexpr int64_t kMaxTaps = 8;

struct ConvBlock {
  const CausalConv1dBackwardArgs& args;
  int64_t first_channel;
  int64_t num_channels;
  int64_t num_taps;
  float weight[kMaxTaps][kChannelBlock];
  float bias[kChannelBlock];
  float d_weight[kMaxTaps][kChannelBlock];
  float d_bias[kChannelBlock];

  [[nodiscard]] const float* x(int64_t row) const {
    return args.x.data<float>() + row * args.x.row_stride() + first_channel;
  }
};

// d_v of one row into `d_v`.
void conv_row(const ConvBlock& block, const SequenceRows& sequence, int64_t row, float* HWY_RESTRICT d_v) {
  float v[kChannelBlock];
  float sigmoids[kChannelBlock];
  std::copy_n(block.bias, kChannelBlock, v);
  for (int64_t k = 0; k < block.num_taps; ++k) {
    const int64_t from = row - (block.num_taps - 1) + k;
    if (from < sequence.begin) continue;
    const float* HWY_RESTRICT x = block.x(from);
    const float* HWY_RESTRICT weight = block.weight[k];
    for (int64_t c = 0; c < block.num_channels; ++c) v[c] += weight[c] * x[c];
  }
  sigmoid_row(v, sigmoids, block.num_channels);
  const float* HWY_RESTRICT d_out =
      block.args.d_out.data<float>() + row * block.args.d_out.row_stride() + block.first_channel;
  for (int64_t c = 0; c < block.num_channels; ++c) {
    d_v[c] = d_out[c] * sigmoids[c] * (1 + v[c] * (1 - sigmoids[c]));
  }
}

void conv_sequence(ConvBlock& block, const SequenceRows& sequence, float* d_v_rows) {
  for (int64_t row = sequence.begin; row < sequence.end; ++row) {
    float* HWY_RESTRICT d_v = d_v_rows + (row - sequence.begin) * kChannelBlock;
    conv_row(block, sequence, row, d_v);
    for (int64_t c = 0; c < block.num_channels; ++c) block.d_bias[c] += d_v[c];
    for (int64_t k = 0; k < block.num_taps; ++k) {
      const int64_t from = row - (block.num_taps - 1) + k;
      if (from < sequence.begin) continue;
      const float* HWY_RESTRICT x = block.x(from);
      float* HWY_RESTRICT d_weight = block.d_weight[k];
      for (int64_t c = 0; c < block.num_channels; ++c) d_weight[c] += d_v[c] * x[c];
    }
  }
  for (int64_t row = sequence.begin; row < sequence.end; ++row) {
    float* HWY_RESTRICT d_x =
        block.args.d_x.data<float>() + row * block.args.d_x.row_stride() + block.first_channel;
    for (int64_t k = 0; k < block.num_taps; ++k) {
      const int64_t to = row + (block.num_taps - 1) - k;
      if (to >= sequence.end) continue;
      const float* HWY_RESTRICT d_v = d_v_rows + (to - sequence.begin) * kChannelBlock;
      const float* HWY_RESTRICT weight = block.weight[k];
      for (int64_t c = 0; c < block.num_channels; ++c) d_x[c] += weight[c] * d_v[c];
    }
  }
}

// Channels from first_channel on; `d_v_rows` has kChannelBlock columns and the rows of the longest sequence.
void conv_backward_block(const CausalConv1dBackwardArgs& args, const float* weight, const float* bias,
                         int64_t first_channel, float* d_v_rows) {
  ConvBlock block{.args = args,
                  .first_channel = first_channel,
                  .num_channels = std::min(kChannelBlock, args.weight.size(0) - first_channel),
                  .num_taps = args.weight.size(1),
                  .weight = {},
                  .bias = {},
                  .d_weight = {},
                  .d_bias = {}};
  for (int64_t c = 0; c < block.num_channels; ++c) {
    if (bias != nullptr) block.bias[c] = bias[first_channel + c];
    for (int64_t k = 0; k < block.num_taps; ++k) {
      block.weight[k][c] = weight[(first_channel + c) * block.num_taps + k];
    }
  }
  for (int64_t sequence_idx = 0; sequence_idx < args.rows->num_sequences; ++sequence_idx) {
    conv_sequence(block, sequence_rows(*args.rows, sequence_idx), d_v_rows);
  }
  for (int64_t c = 0; c < block.num_channels; ++c) {
    if (args.d_bias) args.d_bias.data<float>()[first_channel + c] += block.d_bias[c];
    for (int64_t k = 0; args.d_weight && k < block.num_taps; ++k) {
      args.d_weight.data<float>()[(first_channel + c) * block.num_taps + k] += block.d_weight[k][c];
    }
  }
}

int64_t conv_channel_block() {
  return kChannelBlock;
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(conv_backward_block);
HWY_EXPORT(conv_channel_block);

// A block of channels is a task.
void CpuTrainingBackend::causal_conv1d_backward(const CausalConv1dBackwardArgs& args) {
  check(args);
  check_host_rows(*args.rows, ConstTensorView());
  const std::vector<float> weight = parameter_values(args.weight);
  const std::vector<float> bias = parameter_values(args.bias);
  const int64_t channel_block = HWY_DYNAMIC_DISPATCH(conv_channel_block)();
  const int64_t buffer_size = args.rows->max_query_len * channel_block;
  std::vector<float> buffers(static_cast<size_t>(pool_.num_threads() * buffer_size));
  pool_.parallel_for(ceil_div(args.weight.size(0), channel_block), [&](int64_t task_idx, int thread_idx) {
    HWY_DYNAMIC_DISPATCH(conv_backward_block)
    (args, weight.data(), args.bias ? bias.data() : nullptr, task_idx * channel_block,
     buffers.data() + thread_idx * buffer_size);
  });
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
