#include <cmath>

#include "ops/element_access.h"
#include "ops/host_rows.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {
namespace {

// One channel of one sequence.
void channel_backward(const CausalConv1dBackwardArgs& args, const SequenceRows& sequence, int64_t channel) {
  const int64_t conv_kernel = args.weight.size(1);
  for (int64_t row = sequence.begin; row < sequence.end; ++row) {
    const int64_t first = row - (conv_kernel - 1);  // the row of tap 0
    double v = args.bias ? load_element(args.bias, channel) : 0;
    for (int64_t k = 0; k < conv_kernel; ++k) {
      if (first + k < sequence.begin) continue;
      v += load_element(args.weight, channel, k) * load_element(args.x, first + k, channel);
    }
    const double s = 1 / (1 + std::exp(-v));
    const double d_v = load_element(args.d_out, row, channel) * s * (1 + v * (1 - s));
    for (int64_t k = 0; k < conv_kernel; ++k) {
      if (first + k < sequence.begin) continue;
      add_element(args.d_x, first + k, channel, load_element(args.weight, channel, k) * d_v);
      if (args.d_weight)
        add_element(args.d_weight, channel, k, d_v * load_element(args.x, first + k, channel));
    }
    if (args.d_bias) add_element(args.d_bias, channel, 0, d_v);
  }
}

}  // namespace

void ReferenceTrainingBackend::causal_conv1d_backward(const CausalConv1dBackwardArgs& args) {
  check(args);
  check_host_rows(*args.rows, ConstTensorView());
  for (int64_t sequence_idx = 0; sequence_idx < args.rows->num_sequences; ++sequence_idx) {
    for (int64_t channel = 0; channel < args.weight.size(0); ++channel) {
      channel_backward(args, sequence_rows(*args.rows, sequence_idx), channel);
    }
  }
}

}  // namespace nemoforge::ops
