// A thread owns one channel of kRowsPerBlock rows of the batch, whatever documents they belong to, and walks
// them and the conv_kernel - 1 rows after them, with the last inputs and the last d_v in registers. Shares of
// d_weight and d_bias are added in a second kernel.
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

// The documents of the rows that a block reads gradients of.
struct BlockRows {
  int begin[kRowsPerBlock + kMaxTaps];
  int end[kRowsPerBlock + kMaxTaps];
};

__device__ inline void find_documents(const DocumentRows& documents, int first_row, int last_row,
                                      BlockRows& rows) {
  for (int i = static_cast<int>(threadIdx.x); i < last_row - first_row; i += kThreads) {
    const RowRange range = document_of(documents, first_row + i);
    rows.begin[i] = range.begin;
    rows.end[i] = range.end;
  }
}

// d_v of rows row, row - 1, ... : history[k] is that of row - k. Taps are indexed by their distance to the
// row that the output belongs to: taps[k] = weight[conv_kernel - 1 - k].
template <int kTaps, typename T>
__global__ void __launch_bounds__(kThreads) convolve_backward(ConvProblem<T> problem) {
  __shared__ BlockRows rows;
  await_previous_kernel();
  const int first_row = static_cast<int>(blockIdx.x) * kRowsPerBlock;
  const int end_row = min(first_row + kRowsPerBlock, problem.documents.num_rows);
  const int last_read = min(end_row + problem.conv_kernel - 1, problem.documents.num_rows);
  find_documents(problem.documents, first_row, last_read, rows);
  __syncthreads();  // the documents are known to all
  const int channel = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x);
  if (channel >= problem.channels) return;
  const int conv_kernel = problem.conv_kernel;
  float taps[kTaps];
  float weights[kTaps];  // in their own order
  float inputs[kTaps];   // inputs[k]: x of row - k, in whatever document
  float history[kTaps];  // history[k]: d_v of row - k
  float d_taps[kTaps] = {};
  float d_bias = 0;
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    taps[k] = k < conv_kernel ? problem.weight[channel * conv_kernel + conv_kernel - 1 - k] : 0.0f;
    weights[k] = k < conv_kernel ? problem.weight[channel * conv_kernel + k] : 0.0f;
    history[k] = 0;
    const int row = first_row - 1 - k;
    inputs[k] = k < conv_kernel && row >= 0 ? to_float(problem.x.at(row, channel)) : 0.0f;
  }
  const float offset = problem.bias.data == nullptr ? 0.0f : problem.bias[channel];
  for (int base = first_row; base < end_row + conv_kernel - 1; base += kAhead) {
    float next_inputs[kAhead];
    float next_gradients[kAhead];
    float held[kAhead];  // by d_x of the row that is complete with row base + i
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int row = base + i;
      const int target = row - (conv_kernel - 1);
      next_inputs[i] = row < last_read ? to_float(problem.x.at(row, channel)) : 0.0f;
      next_gradients[i] = row < last_read ? to_float(problem.d_out.at(row, channel)) : 0.0f;
      held[i] = target >= first_row && target < end_row ? to_float(problem.d_x.at(target, channel)) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int row = base + i;
#pragma unroll
      for (int k = kTaps - 1; k > 0; --k) {
        inputs[k] = inputs[k - 1];
        history[k] = history[k - 1];
      }
      inputs[0] = next_inputs[i];
      history[0] = 0;
      if (row < last_read) {
        const int begin = rows.begin[row - first_row];
        float v = offset;
#pragma unroll
        for (int k = 0; k < kTaps; ++k) v += row - k >= begin ? taps[k] * inputs[k] : 0.0f;
        const float s = 1.0f / (1.0f + expf(-v));
        history[0] = next_gradients[i] * s * (1.0f + v * (1.0f - s));
        if (row < end_row) {
          d_bias += history[0];
#pragma unroll
          for (int k = 0; k < kTaps; ++k) d_taps[k] += row - k >= begin ? history[0] * inputs[k] : 0.0f;
        }
      }
      // All that reads input row `target` has been seen.
      const int target = row - (conv_kernel - 1);
      if (target < first_row || target >= end_row) continue;
      const int end = rows.end[target - first_row];
      float sum = held[i];
#pragma unroll
      for (int k = 0; k < kTaps; ++k) {
        // history[k] is of row target + conv_kernel - 1 - k, which reads target by its tap k.
        const int distance = conv_kernel - 1 - k;
        if (distance >= 0 && target + distance < end) sum += weights[k] * history[k];
      }
      problem.d_x.at(target, channel) = from_float<T>(sum);
    }
  }
  if (problem.d_bias_partials != nullptr) {
    problem.d_bias_partials[static_cast<int64_t>(blockIdx.x) * problem.channels + channel] = d_bias;
  }
  if (problem.d_weight_partials == nullptr) return;
  float* partials = problem.d_weight_partials +
                    (static_cast<int64_t>(blockIdx.x) * problem.channels + channel) * conv_kernel;
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    if (k < conv_kernel) partials[conv_kernel - 1 - k] = d_taps[k];
  }
}

template <typename T>
void launch(const CausalConv1dBackwardArgs& args, float* d_bias_partials, float* d_weight_partials,
            const dim3& grid, OpStream& stream) {
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
  stream.launch(
      problem.conv_kernel <= kFewTaps ? convolve_backward<kFewTaps, T> : convolve_backward<kMaxTaps, T>, grid,
      kThreads, 0, problem);
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
  const dim3 grid(static_cast<unsigned>(num_blocks),
                  static_cast<unsigned>(ceil_div<int64_t>(channels, kThreads)));
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    launch<DeviceType<typename decltype(tag)::type>>(args, d_bias_partials, d_weight_partials, grid,
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
