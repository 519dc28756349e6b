#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "ops/element_access.h"
#include "ops/host_rows.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {
namespace {

// One head of one sequence.
class HeadBackward {
 public:
  HeadBackward(const SsdScanBackwardArgs& args, const SequenceRows& sequence, int64_t head)
      : args_(args),
        sequence_(sequence),
        head_(head),
        bc_begin_(head / (args.num_heads / args.num_groups) * args.state_size),
        a_(-std::exp(load_element(args.a_log, head))) {}

  void run() {
    const size_t numel = static_cast<size_t>(args_.head_dim * args_.state_size);
    states_.assign(1, std::vector<double>(numel));  // the state before the first row
    for (int64_t row = sequence_.begin; row < sequence_.end; ++row) advance(row);
    d_state_.assign(numel, 0);
    for (int64_t row = sequence_.end - 1; row >= sequence_.begin; --row) go_back(row);
  }

 private:
  double raw(int64_t row) const {
    return load_element(args_.dt_raw, row, head_) + load_element(args_.dt_bias, head_);
  }
  double dt(int64_t row) const { return std::max(raw(row), 0.0) + std::log1p(std::exp(-std::abs(raw(row)))); }
  double decay(int64_t row) const { return std::exp(a_ * dt(row)); }
  double x(int64_t row, int64_t p) const { return load_element(args_.x, row, head_ * args_.head_dim + p); }
  size_t at(int64_t p, int64_t n) const { return static_cast<size_t>(p * args_.state_size + n); }

  void advance(int64_t row) {
    std::vector<double> state = states_.back();
    for (int64_t p = 0; p < args_.head_dim; ++p) {
      for (int64_t n = 0; n < args_.state_size; ++n) {
        const double b = load_element(args_.b, row, bc_begin_ + n);
        state[at(p, n)] = decay(row) * state[at(p, n)] + dt(row) * x(row, p) * b;
      }
    }
    states_.push_back(std::move(state));
  }

  void go_back(int64_t row) {
    const std::vector<double>& before = states_[static_cast<size_t>(row - sequence_.begin)];
    const std::vector<double>& after = states_[static_cast<size_t>(row - sequence_.begin + 1)];
    double e = 0;
    double d_dt = 0;
    double d_d = 0;
    std::vector<double> d_b(static_cast<size_t>(args_.state_size));
    std::vector<double> d_c(static_cast<size_t>(args_.state_size));
    for (int64_t p = 0; p < args_.head_dim; ++p) {
      const int64_t channel = head_ * args_.head_dim + p;
      const double d_y = load_element(args_.d_y, row, channel);
      double along_b = 0;
      for (int64_t n = 0; n < args_.state_size; ++n) {
        double& d_state = d_state_[at(p, n)];
        d_state += d_y * load_element(args_.c, row, bc_begin_ + n);
        d_c[static_cast<size_t>(n)] += after[at(p, n)] * d_y;
        d_b[static_cast<size_t>(n)] += dt(row) * d_state * x(row, p);
        along_b += d_state * load_element(args_.b, row, bc_begin_ + n);
        e += decay(row) * d_state * before[at(p, n)];
        d_state *= decay(row);
      }
      add_element(args_.d_x, row, channel, dt(row) * along_b + load_element(args_.d, head_) * d_y);
      d_dt += x(row, p) * along_b;
      d_d += x(row, p) * d_y;
    }
    for (int64_t n = 0; n < args_.state_size; ++n) {
      add_element(args_.d_b, row, bc_begin_ + n, d_b[static_cast<size_t>(n)]);
      add_element(args_.d_c, row, bc_begin_ + n, d_c[static_cast<size_t>(n)]);
    }
    const double d_raw = (d_dt + a_ * e) / (1 + std::exp(-raw(row)));
    add_element(args_.d_dt_raw, row, head_, d_raw);
    if (!args_.d_a_log) return;
    add_element(args_.d_dt_bias, head_, 0, d_raw);
    add_element(args_.d_d, head_, 0, d_d);
    add_element(args_.d_a_log, head_, 0, a_ * dt(row) * e);
  }

  const SsdScanBackwardArgs& args_;
  SequenceRows sequence_;
  int64_t head_;
  int64_t bc_begin_;  // of the head's group in a row of b and c
  double a_;
  std::vector<std::vector<double>> states_;  // before the first row, and after each
  std::vector<double> d_state_;              // of the state after the row
};

}  // namespace

void ReferenceTrainingBackend::ssd_scan_backward(const SsdScanBackwardArgs& args) {
  check(args);
  check_host_rows(*args.rows, ConstTensorView());
  for (int64_t sequence_idx = 0; sequence_idx < args.rows->num_sequences; ++sequence_idx) {
    for (int64_t head = 0; head < args.num_heads; ++head) {
      HeadBackward(args, sequence_rows(*args.rows, sequence_idx), head).run();
    }
  }
}

}  // namespace nemoforge::ops
