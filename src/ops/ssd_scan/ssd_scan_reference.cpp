#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/element_access.h"
#include "ops/host_rows.h"
#include "ops/reference_backend.h"
#include "ops/ssd_scan/ssd_scan.h"

namespace nemoforge::ops {
namespace {

// One head of one sequence; `state` is its [head_dim, state_size].
void scan_head(const SsdScanArgs& args, const SequenceRows& sequence, int64_t head,
               std::vector<double>& state) {
  const int64_t group = head / (args.num_heads / args.num_groups);
  const double a = -std::exp(load_element(args.a_log, head, 0));
  for (int64_t row = sequence.begin; row < sequence.end; ++row) {
    const double v = load_element(args.dt_raw, row, head) + load_element(args.dt_bias, head, 0);
    const double dt = std::max(v, 0.0) + std::log1p(std::exp(-std::abs(v)));  // softplus without overflow
    const double decay = std::exp(a * dt);
    for (int64_t p = 0; p < args.head_dim; ++p) {
      const double x = load_element(args.x, row, head * args.head_dim + p);
      double y = load_element(args.d, head, 0) * x;
      for (int64_t n = 0; n < args.state_size; ++n) {
        double& h = state[static_cast<size_t>(p * args.state_size + n)];
        h = decay * h + dt * x * load_element(args.b, row, group * args.state_size + n);
        y += h * load_element(args.c, row, group * args.state_size + n);
      }
      store_element(args.y, row, head * args.head_dim + p, y);
    }
  }
}

}  // namespace

void ReferenceBackend::ssd_scan(const SsdScanArgs& args) {
  check(args);
  check_host_rows(*args.rows, args.ssm_state);
  const int64_t head_numel = args.head_dim * args.state_size;
  for (int64_t sequence_idx = 0; sequence_idx < args.rows->num_sequences; ++sequence_idx) {
    const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
    for (int64_t head = 0; head < args.num_heads; ++head) {
      std::vector<double> state(static_cast<size_t>(head_numel));
      if (!args.ssm_state) {
        scan_head(args, sequence, head, state);
        continue;
      }
      float* stored = args.ssm_state.data<float>() +
                      (state_slot(*args.rows, sequence_idx) * args.num_heads + head) * head_numel;
      if (sequence.context_len > 0) std::copy(stored, stored + head_numel, state.begin());
      scan_head(args, sequence, head, state);
      std::transform(state.begin(), state.end(), stored, [](double h) { return static_cast<float>(h); });
    }
  }
}

}  // namespace nemoforge::ops
