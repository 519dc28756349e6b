// A thread owns kChannels channels of kRowsPerBlock rows of the batch, whatever documents they belong to, and
// walks them and the rows after them that read them, with the last inputs and the d_x of the last rows in
// registers. Where a document begins the inputs before it become zeros, and the d_x of the rows before it are
// complete. Shares of d_weight and d_bias are added in a second kernel.
//
// Bytes moved: x, d_out and d_x once, (conv_kernel - 1) / kRowsPerBlock of x and d_out again.
#include "base/integers.h"
#include "ops/causal_conv1d/causal_conv1d_backward_cuda.h"
#include "ops/cuda_check.h"
#include "ops/document_rows.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/gradient_elements.cuh"
#include "ops/gradient_sums.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 128;
constexpr int kRowsPerBlock = 64;
constexpr int kAhead = 8;    // rows that are read before the first of them is needed
constexpr int kFewTaps = 4;  // Nemotron-3-Nano's
constexpr int kMaxTaps = 8;  // conv_kernel's limit in the contract

template <typename T>
struct ConvProblem {
  DocumentRows documents;
  DeviceRows<const T> x;
  ParameterElements weight;
  ParameterElements bias;
  int conv_kernel, channels;
  DeviceRows<const T> d_out;
  DeviceRows<T> d_x;
  float* d_bias_partials;    // [blocks along rows, channels]; null where not wanted, as is the next
  float* d_weight_partials;  // [blocks along rows, channels, conv_kernel]
};

// What a thread keeps of the last kTaps rows: [k] is of the row k before the present one. Filters that are
// shorter than kTaps end in zeros.
template <int kTaps>
struct Window {
  float taps[kTaps];  // weight[conv_kernel - 1 - k], which multiplies the input k rows before the output
  float inputs[kTaps];
  float d_x[kTaps];
  float d_taps[kTaps];
  float d_bias;
};

// d_v of a row from its pre-activation and the gradient of its output.
__device__ inline float silu_gradient(float v, float d_out) {
  const float s = __fdividef(1.0f, 1.0f + __expf(-v));
  return d_out * s * (1.0f + v * (1.0f - s));
}

template <int kTaps, typename T>
__device__ void begin_window(const ConvProblem<T>& problem, int channel, int first_row, int first_of_document,
                             Window<kTaps>& window) {
  window.d_bias = 0;
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    const bool in_filter = k < problem.conv_kernel;
    const int64_t tap = static_cast<int64_t>(channel) * problem.conv_kernel + problem.conv_kernel - 1 - k;
    window.taps[k] = in_filter ? problem.weight[tap] : 0.0f;
    window.d_taps[k] = window.d_x[k] = 0;
    const int row = first_row - 1 - k;
    window.inputs[k] = in_filter && row >= first_of_document ? to_float(problem.x.at(row, channel)) : 0.0f;
  }
}

// Goes on to `row`: v of it.
template <int kTaps>
__device__ float advance(Window<kTaps>& window, bool begins_document, float input, float offset) {
#pragma unroll
  for (int k = kTaps - 1; k > 0; --k) {
    window.inputs[k] = begins_document ? 0.0f : window.inputs[k - 1];
    window.d_x[k] = window.d_x[k - 1];
  }
  window.inputs[0] = input;
  window.d_x[0] = 0;
  float v = offset;
#pragma unroll
  for (int k = 0; k < kTaps; ++k) v += window.taps[k] * window.inputs[k];
  return v;
}

// begins[i]: first row of the document of row first_row + i; beyond the batch, the batch's end.
__device__ inline void find_begins(const DocumentRows& documents, int first_row, int count, int* begins) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const int row = first_row + i;
    begins[i] = row < documents.num_rows ? document_of(documents, row).begin : documents.num_rows;
  }
}

// The block's shares of the channel's d_bias and d_weight, where they are wanted.
template <int kTaps, typename T>
__device__ void store_shares(const ConvProblem<T>& problem, int channel, const Window<kTaps>& window) {
  const int64_t place = static_cast<int64_t>(blockIdx.x) * problem.channels + channel;
  if (problem.d_bias_partials != nullptr) problem.d_bias_partials[place] = window.d_bias;
  if (problem.d_weight_partials == nullptr) return;
  float* partials = problem.d_weight_partials + place * problem.conv_kernel;
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    if (k < problem.conv_kernel) partials[problem.conv_kernel - 1 - k] = window.d_taps[k];
  }
}

// kChannels: consecutive channels of a thread, which share all that depends on the row; where there are
// several, channels and rows are made of aligned packs of them.
template <int kTaps, int kChannels, typename T>
__global__ void __launch_bounds__(kThreads) convolve_backward(ConvProblem<T> problem) {
  using Channels = Pack<T, kChannels>;
  __shared__ int begins[kRowsPerBlock + kMaxTaps];
  await_previous_kernel();
  const int first_row = static_cast<int>(blockIdx.x) * kRowsPerBlock;
  const int num_rows = problem.documents.num_rows;
  const int end_row = min(first_row + kRowsPerBlock, num_rows);
  const int end_read = end_row + kTaps - 1;
  find_begins(problem.documents, first_row, end_read - first_row, begins);
  __syncthreads();  // the documents are known to all
  const int channel = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kChannels;
  if (channel >= problem.channels) return;
  Window<kTaps> windows[kChannels];
  float offsets[kChannels];
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    begin_window(problem, channel + c, first_row, begins[0], windows[c]);
    offsets[c] = problem.bias.data == nullptr ? 0.0f : problem.bias[channel + c];
  }
  const auto read = [&](const T& first) { return *reinterpret_cast<const Channels*>(&first); };
  const bool trains = problem.d_bias_partials != nullptr || problem.d_weight_partials != nullptr;
  for (int base = first_row; base < end_read; base += kAhead) {
    Channels inputs[kAhead] = {};
    Channels gradients[kAhead] = {};
    Channels held[kAhead] = {};  // by d_x of row base + i - (kTaps - 1)
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int row = base + i;
      const int target = row - (kTaps - 1);
      if (row < min(end_read, num_rows)) {
        inputs[i] = read(problem.x.at(row, channel));
        gradients[i] = read(problem.d_out.at(row, channel));
      }
      if (target >= first_row && target < end_row) held[i] = read(problem.d_x.at(target, channel));
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int row = base + i;
      if (row >= end_read) break;
      const int begin = begins[row - first_row];
      if (row == begin && row > first_row) {
        // The document before this row is complete: rows of it that the walk has not left behind.
        const int first = max(max(row - (kTaps - 1), begins[row - 1 - first_row]), first_row);
#pragma unroll
        for (int k = 0; k < kTaps - 1; ++k) {
          const int target = row - 1 - k;
          if (target < first || target >= end_row) continue;
#pragma unroll
          for (int c = 0; c < kChannels; ++c) add_to(problem.d_x.at(target, channel + c), windows[c].d_x[k]);
        }
      }
      const int target = row - (kTaps - 1);
      const bool completes = target >= max(first_row, begin) && target < end_row;
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        Window<kTaps>& window = windows[c];
        const float v = advance(window, row == begin, to_float(inputs[i].values[c]), offsets[c]);
        const float d_v = silu_gradient(v, to_float(gradients[i].values[c]));
#pragma unroll
        for (int k = 0; k < kTaps; ++k) window.d_x[k] += window.taps[k] * d_v;
        held[i].values[c] = from_float<T>(to_float(held[i].values[c]) + window.d_x[kTaps - 1]);
        if (trains && row < end_row) {
          window.d_bias += d_v;
#pragma unroll
          for (int k = 0; k < kTaps; ++k) window.d_taps[k] += window.inputs[k] * d_v;
        }
      }
      if (completes) *reinterpret_cast<Channels*>(&problem.d_x.at(target, channel)) = held[i];
    }
  }
#pragma unroll
  for (int c = 0; c < kChannels; ++c) store_shares(problem, channel + c, windows[c]);
}

template <typename T>
void launch(const CausalConv1dBackwardArgs& args, float* d_bias_partials, float* d_weight_partials,
            int64_t num_blocks, OpStream& stream) {
  const ConvProblem<T> problem{
      {args.rows->cu_seqlens.data<int32_t>(), static_cast<int>(args.rows->num_sequences),
       static_cast<int>(args.rows->num_tokens)},
      device_rows<T>(args.x),
      parameter_elements(args.weight),
      parameter_elements(args.bias),
      static_cast<int>(args.weight.size(1)),
      static_cast<int>(args.weight.size(0)),
      device_rows<T>(args.d_out),
      device_rows<T>(args.d_x),
      d_bias_partials,
      d_weight_partials};
  constexpr int kPair = 2;
  const bool paired = problem.conv_kernel <= kFewTaps && rows_aligned_to<kPair>(args.x) &&
                      rows_aligned_to<kPair>(args.d_out) && rows_aligned_to<kPair>(args.d_x);
  const int64_t threads = ceil_div<int64_t>(problem.channels, paired ? kPair : 1);
  const dim3 grid(static_cast<unsigned>(num_blocks),
                  static_cast<unsigned>(ceil_div<int64_t>(threads, kThreads)));
  if (paired) {
    stream.launch(convolve_backward<kFewTaps, kPair, T>, grid, kThreads, 0, problem);
  } else if (problem.conv_kernel <= kFewTaps) {
    stream.launch(convolve_backward<kFewTaps, 1, T>, grid, kThreads, 0, problem);
  } else {
    stream.launch(convolve_backward<kMaxTaps, 1, T>, grid, kThreads, 0, problem);
  }
}

}  // namespace

void causal_conv1d_backward_cuda(const CausalConv1dBackwardArgs& args, CudaTrainingContext& context) {
  const int64_t channels = args.weight.size(0);
  if (args.rows->num_tokens == 0 || channels == 0) return;
  const int64_t num_blocks = ceil_div<int64_t>(args.rows->num_tokens, kRowsPerBlock);
  const int64_t bias_floats = args.d_bias ? num_blocks * channels : 0;
  const int64_t weight_floats = args.d_weight ? num_blocks * args.weight.numel() : 0;
  float* partials = nullptr;
  if (bias_floats + weight_floats > 0) {
    partials = static_cast<float*>(
        context.memory((bias_floats + weight_floats) * static_cast<int64_t>(sizeof(float))));
  }
  float* d_bias_partials = args.d_bias ? partials : nullptr;
  float* d_weight_partials = args.d_weight ? partials + bias_floats : nullptr;
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    launch<DeviceType<typename decltype(tag)::type>>(args, d_bias_partials, d_weight_partials, num_blocks,
                                                     context.stream());
  });
  if (args.d_bias) {
    add_partial_sums(d_bias_partials, num_blocks, channels, channels, args.d_bias.data<float>(),
                     context.stream());
  }
  if (args.d_weight) {
    add_partial_sums(d_weight_partials, num_blocks, args.weight.numel(), args.weight.numel(),
                     args.d_weight.data<float>(), context.stream());
  }
}

}  // namespace nemoforge::ops
