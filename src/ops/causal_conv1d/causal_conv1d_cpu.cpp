// Channels are independent: a task is a block of channels of one sequence. Its inputs go through a tile of
// fp32 rows in L1, whose first conv_kernel - 1 rows are the end of the tile before (at first: the state).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/causal_conv1d/causal_conv1d_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/causal_conv1d/causal_conv1d.h"
#include "ops/cpu_backend.h"
#include "ops/dtype_dispatch.h"
#include "ops/host_rows.h"
#include "ops/parallel_ranges.h"
#include "ops/simd_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Rows of x are far apart, so a block takes a good part of each (8 cache lines of bf16), and as many rows as
// leave the tile in L1.
constexpr int64_t kConvChannels = 256;
constexpr int64_t kConvTileRows = 16;
constexpr int64_t kConvMaxKernel = 8;

struct ConvBlock {
  int64_t num_channels = 0;  // at most kConvChannels
  int64_t conv_kernel = 0;
  HWY_ALIGN float weight[kConvMaxKernel][kConvChannels];  // transposed: a tap's weights are contiguous
  HWY_ALIGN float bias[kConvChannels];
  HWY_ALIGN float input[kConvMaxKernel - 1 + kConvTileRows][kConvChannels];
};

// block.weight from [channels, conv_kernel].
void transpose_weight(const float* weight, ConvBlock& block) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  if (block.conv_kernel == 4) {
    for (; c + lanes <= block.num_channels; c += lanes) {
      hn::Vec<decltype(d)> w0, w1, w2, w3;
      hn::LoadInterleaved4(d, weight + 4 * c, w0, w1, w2, w3);
      hn::Store(w0, d, block.weight[0] + c);
      hn::Store(w1, d, block.weight[1] + c);
      hn::Store(w2, d, block.weight[2] + c);
      hn::Store(w3, d, block.weight[3] + c);
    }
  }
  for (; c < block.num_channels; ++c) {
    for (int64_t k = 0; k < block.conv_kernel; ++k) block.weight[k][c] = weight[c * block.conv_kernel + k];
  }
}

void load_parameters(const CausalConv1dArgs& args, int64_t channel, ConvBlock& block) {
  HWY_ALIGN float weight[kConvChannels * kConvMaxKernel];
  dispatch_weight(args.weight.dtype(), [&]<typename W>(std::type_identity<W>) {
    convert(args.weight.data<W>() + channel * block.conv_kernel, weight,
            block.num_channels * block.conv_kernel);
  });
  transpose_weight(weight, block);
  if (!args.bias) {
    std::fill_n(block.bias, block.num_channels, 0.0f);
    return;
  }
  dispatch_weight(args.bias.dtype(), [&]<typename W>(std::type_identity<W>) {
    convert(args.bias.data<W>() + channel, block.bias, block.num_channels);
  });
}

// Output row of the window that begins at input row `first`.
template <typename Out>
HWY_INLINE void convolve_row(const ConvBlock& block, int64_t first, Out* out) {
  const hn::ScalableTag<float> d;
  for_each_vector(
      d, block.num_channels,
      [&](int64_t c) HWY_ATTR {
        auto sum = hn::Load(d, block.bias + c);
        for (int64_t k = 0; k < block.conv_kernel; ++k) {
          sum = hn::MulAdd(hn::Load(d, block.weight[k] + c), hn::Load(d, block.input[first + k] + c), sum);
        }
        store(silu(d, sum), d, out + c);
      },
      [&](int64_t c, int64_t rest) HWY_ATTR {
        auto sum = load_partial(d, block.bias + c, rest);
        for (int64_t k = 0; k < block.conv_kernel; ++k) {
          sum = hn::MulAdd(load_partial(d, block.weight[k] + c, rest),
                           load_partial(d, block.input[first + k] + c, rest), sum);
        }
        store_partial(silu(d, sum), d, out + c, rest);
      });
}

template <typename X, typename Out>
void convolve(const CausalConv1dArgs& args, int64_t sequence_idx, int64_t channel, ConvBlock& block) {
  const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
  const int64_t state_rows = block.conv_kernel - 1;
  const int64_t channels = args.weight.size(0);
  X* state = nullptr;
  if (args.conv_state) {
    state =
        args.conv_state.data<X>() + state_slot(*args.rows, sequence_idx) * state_rows * channels + channel;
  }
  for (int64_t i = 0; i < state_rows; ++i) {
    if (sequence.context_len > 0) {
      convert(state + i * channels, block.input[i], block.num_channels);
    } else {
      std::fill_n(block.input[i], block.num_channels, 0.0f);
    }
  }
  for (int64_t begin = sequence.begin; begin < sequence.end; begin += kConvTileRows) {
    const int64_t num_rows = std::min(kConvTileRows, sequence.end - begin);
    for (int64_t i = 0; i < num_rows; ++i) {
      convert(args.x.data<X>() + (begin + i) * args.x.row_stride() + channel, block.input[state_rows + i],
              block.num_channels);
    }
    for (int64_t i = 0; i < num_rows; ++i) {
      convolve_row(block, i, args.out.data<Out>() + (begin + i) * args.out.row_stride() + channel);
    }
    for (int64_t i = 0; i < state_rows; ++i) {
      std::copy_n(block.input[num_rows + i], block.num_channels, block.input[i]);
    }
  }
  for (int64_t i = 0; state != nullptr && i < state_rows; ++i) {
    convert(block.input[i], state + i * channels, block.num_channels);
  }
}

// Tasks [begin, end): task = sequence_idx * num_blocks + block_idx.
void causal_conv1d_tasks(const CausalConv1dArgs& args, int64_t begin, int64_t end) {
  const int64_t channels = args.weight.size(0);
  const int64_t num_blocks = ceil_div(channels, kConvChannels);
  ConvBlock block;
  block.conv_kernel = args.weight.size(1);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t channel = task % num_blocks * kConvChannels;
    block.num_channels = std::min(kConvChannels, channels - channel);
    load_parameters(args, channel, block);
    dispatch_activation(args.x.dtype(), [&]<typename X>(std::type_identity<X>) {
      dispatch_activation(args.out.dtype(), [&]<typename Out>(std::type_identity<Out>) {
        convolve<X, Out>(args, task / num_blocks, channel, block);
      });
    });
  }
}

int64_t causal_conv1d_num_tasks(const CausalConv1dArgs& args) {
  return args.rows->num_sequences * ceil_div(args.weight.size(0), kConvChannels);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(causal_conv1d_tasks);
HWY_EXPORT(causal_conv1d_num_tasks);

void CpuBackend::causal_conv1d(const CausalConv1dArgs& args) {
  check(args);
  check_host_rows(*args.rows, args.conv_state);
  const int64_t num_tasks = HWY_DYNAMIC_DISPATCH(causal_conv1d_num_tasks)(args);
  const int64_t bytes = args.rows->num_tokens * args.weight.size(0) * 8;
  const auto run = [&](int64_t begin, int64_t end, int) {
    HWY_DYNAMIC_DISPATCH(causal_conv1d_tasks)(args, begin, end);
  };
  parallel_ranges(pool_, num_tasks, items_per_task(bytes / num_tasks), run);
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
