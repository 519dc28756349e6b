#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/ssd_scan/ssd_scan_backward_cpu.cpp"
#include <algorithm>
#include <cmath>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/integers.h"
#include "ops/cpu_training_backend.h"
#include "ops/host_rows.h"
#include "ops/simd_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Rows whose states are in memory at once (2 MiB of fp32 at 64 x 128); of earlier rows the state before every
// such chunk is kept.
constexpr int64_t kScanChunk = 64;

// One head of one sequence.
class HeadScan {
 public:
  HeadScan(const SsdScanBackwardArgs& args, const SequenceRows& sequence, int64_t head, float* buffer,
           float* d_parameters)
      : args_(args),
        sequence_(sequence),
        head_(head),
        numel_(args.head_dim * args.state_size),
        bc_column_(head / (args.num_heads / args.num_groups) * args.state_size),
        a_(-std::exp(args.a_log.data<float>()[head])),
        d_(args.d.data<float>()[head]),
        d_parameters_(d_parameters),
        states_(buffer),
        d_state_(states_ + (kScanChunk + 1) * numel_),
        snapshots_(d_state_ + numel_) {}
  static int64_t num_floats(const SsdScanBackwardArgs& args) {
    const int64_t numel = args.head_dim * args.state_size;
    return (kScanChunk + 2 + ceil_div(args.rows->max_query_len, kScanChunk)) * numel;
  }

  void run() {
    const int64_t num_chunks = ceil_div(sequence_.num_rows(), kScanChunk);
    std::fill_n(states_, numel_, 0.0f);
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
      std::copy_n(states_, numel_, snapshots_ + chunk * numel_);
      if (chunk + 1 == num_chunks) break;
      const int64_t begin = sequence_.begin + chunk * kScanChunk;
      for (int64_t row = begin; row < begin + kScanChunk; ++row) advance(row, states_, states_);
    }
    std::fill_n(d_state_, numel_, 0.0f);
    for (int64_t chunk = num_chunks - 1; chunk >= 0; --chunk) chunk_backward(chunk);
  }

 private:
  struct Step {
    float raw;
    float dt;
    float decay;
  };

  [[nodiscard]] Step step(int64_t row) const {
    const float raw = args_.dt_raw.data<float>()[row * args_.dt_raw.row_stride() + head_] +
                      args_.dt_bias.data<float>()[head_];
    const float dt = std::max(raw, 0.0f) + std::log1p(std::exp(-std::abs(raw)));
    return {raw, dt, std::exp(a_ * dt)};
  }
  [[nodiscard]] static const float* at(const ConstTensorView& view, int64_t row, int64_t column) {
    return view.data<float>() + row * view.row_stride() + column;
  }
  [[nodiscard]] static float* at(const TensorView& view, int64_t row, int64_t column) {
    return view.data<float>() + row * view.row_stride() + column;
  }

  // The state after `row` from the one before it; they may be the same.
  void advance(int64_t row, const float* before, float* after) const {
    const Step now = step(row);
    const float* x = at(args_.x, row, head_ * args_.head_dim);
    const float* b = at(args_.b, row, bc_column_);
    for (int64_t p = 0; p < args_.head_dim; ++p) {
      const float dt_x = now.dt * x[p];
      const float* from = before + p * args_.state_size;
      float* to = after + p * args_.state_size;
      for (int64_t n = 0; n < args_.state_size; ++n) to[n] = now.decay * from[n] + dt_x * b[n];
    }
  }

  void chunk_backward(int64_t chunk) {
    const int64_t begin = sequence_.begin + chunk * kScanChunk;
    const int64_t end = std::min(begin + kScanChunk, sequence_.end);
    std::copy_n(snapshots_ + chunk * numel_, numel_, states_);
    for (int64_t row = begin; row < end; ++row) {
      float* before = states_ + (row - begin) * numel_;
      advance(row, before, before + numel_);
    }
    for (int64_t row = end - 1; row >= begin; --row) row_backward(row, states_ + (row - begin) * numel_);
  }

  void row_backward(int64_t row, const float* before) {
    const Step now = step(row);
    const int64_t state_size = args_.state_size;
    const float* x = at(args_.x, row, head_ * args_.head_dim);
    const float* d_y = at(args_.d_y, row, head_ * args_.head_dim);
    const float* HWY_RESTRICT b = at(args_.b, row, bc_column_);
    const float* HWY_RESTRICT c = at(args_.c, row, bc_column_);
    float* d_x = at(args_.d_x, row, head_ * args_.head_dim);
    float* HWY_RESTRICT d_b = at(args_.d_b, row, bc_column_);
    float* HWY_RESTRICT d_c = at(args_.d_c, row, bc_column_);
    float e = 0;
    float d_dt = 0;
    float d_d = 0;
    for (int64_t p = 0; p < args_.head_dim; ++p) {
      float* HWY_RESTRICT d_state = d_state_ + p * state_size;
      const float* HWY_RESTRICT state_before = before + p * state_size;
      const float* HWY_RESTRICT state_after = state_before + numel_;
      const float dt_x = now.dt * x[p];
      for (int64_t n = 0; n < state_size; ++n) {
        d_state[n] += d_y[p] * c[n];
        d_c[n] += d_y[p] * state_after[n];
        d_b[n] += dt_x * d_state[n];
      }
      const float along_b = dot(d_state, b, state_size);
      e += now.decay * dot(d_state, state_before, state_size);
      for (int64_t n = 0; n < state_size; ++n) d_state[n] *= now.decay;
      d_x[p] += now.dt * along_b + d_ * d_y[p];
      d_dt += x[p] * along_b;
      d_d += x[p] * d_y[p];
    }
    const float d_raw = (d_dt + a_ * e) / (1 + std::exp(-now.raw));
    *at(args_.d_dt_raw, row, head_) += d_raw;
    d_parameters_[0] += a_ * now.dt * e;
    d_parameters_[1] += d_d;
    d_parameters_[2] += d_raw;
  }

  const SsdScanBackwardArgs& args_;
  SequenceRows sequence_;
  int64_t head_;
  int64_t numel_;      // of a state
  int64_t bc_column_;  // of the head's group in a row of b and c
  float a_;
  float d_;
  float* d_parameters_;  // of a_log, d and dt_bias
  float* states_;        // [kScanChunk + 1, head_dim, state_size]: before a chunk's rows and after each
  float* d_state_;       // [head_dim, state_size]
  float* snapshots_;     // [num_chunks, head_dim, state_size]
};

// One group of heads of one sequence, which share B and C. d_parameters: [heads of the sequence, 3].
void scan_backward_group(const SsdScanBackwardArgs& args, int64_t sequence_idx, int64_t group,
                         float* d_parameters, float* buffer) {
  const int64_t heads_per_group = args.num_heads / args.num_groups;
  for (int64_t head = group * heads_per_group; head < (group + 1) * heads_per_group; ++head) {
    HeadScan(args, sequence_rows(*args.rows, sequence_idx), head, buffer, d_parameters + 3 * head).run();
  }
}

int64_t scan_backward_floats(const SsdScanBackwardArgs& args) {
  return HeadScan::num_floats(args);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(scan_backward_group);
HWY_EXPORT(scan_backward_floats);

// A group of heads of a sequence is a task; the sums of the heads' parameters are added in the sequences'
// order.
void CpuTrainingBackend::ssd_scan_backward(const SsdScanBackwardArgs& args) {
  check(args);
  check_host_rows(*args.rows, ConstTensorView());
  const int64_t buffer_size = HWY_DYNAMIC_DISPATCH(scan_backward_floats)(args);
  std::vector<float> buffers(static_cast<size_t>(pool_.num_threads() * buffer_size));
  const int64_t num_sequences = args.rows->num_sequences;
  std::vector<float> d_parameters(static_cast<size_t>(num_sequences * args.num_heads * 3));
  pool_.parallel_for(num_sequences * args.num_groups, [&](int64_t task_idx, int thread_idx) {
    const int64_t sequence_idx = task_idx / args.num_groups;
    HWY_DYNAMIC_DISPATCH(scan_backward_group)
    (args, sequence_idx, task_idx % args.num_groups, d_parameters.data() + sequence_idx * args.num_heads * 3,
     buffers.data() + thread_idx * buffer_size);
  });
  if (!args.d_a_log) return;
  for (int64_t i = 0; i < num_sequences * args.num_heads; ++i) {
    const int64_t head = i % args.num_heads;
    const float* sums = d_parameters.data() + 3 * i;
    args.d_a_log.data<float>()[head] += sums[0];
    args.d_d.data<float>()[head] += sums[1];
    args.d_dt_bias.data<float>()[head] += sums[2];
  }
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
