#include <cmath>
#include <vector>

#include "ops/causal_conv1d/causal_conv1d.h"
#include "ops/element_access.h"
#include "ops/host_rows.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {

void ReferenceBackend::causal_conv1d(const CausalConv1dArgs& args) {
  check(args);
  check_host_rows(*args.rows, args.conv_state);
  const int64_t channels = args.weight.size(0);
  const int64_t conv_kernel = args.weight.size(1);
  const int64_t state_rows = conv_kernel - 1;
  for (int64_t sequence_idx = 0; sequence_idx < args.rows->num_sequences; ++sequence_idx) {
    const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
    const int64_t slot = args.conv_state ? state_slot(*args.rows, sequence_idx) : 0;
    for (int64_t channel = 0; channel < channels; ++channel) {
      std::vector<double> input;  // the state, then the rows of this batch
      for (int64_t i = 0; i < state_rows; ++i) {
        const int64_t column = i * channels + channel;
        input.push_back(sequence.context_len > 0 ? load_element(args.conv_state, slot, column) : 0);
      }
      for (int64_t row = sequence.begin; row < sequence.end; ++row) {
        input.push_back(load_element(args.x, row, channel));
        double sum = args.bias ? load_element(args.bias, channel, 0) : 0;
        for (int64_t k = 0; k < conv_kernel; ++k) {
          const double x = input[static_cast<size_t>(row - sequence.begin + k)];
          sum += load_element(args.weight, channel, k) * x;
        }
        store_element(args.out, row, channel, sum / (1 + std::exp(-sum)));
      }
      for (int64_t i = 0; args.conv_state && i < state_rows; ++i) {
        store_element(args.conv_state, slot, i * channels + channel,
                      input[static_cast<size_t>(sequence.num_rows() + i)]);
      }
    }
  }
}

}  // namespace nemoforge::ops
