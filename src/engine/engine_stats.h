// What the engine has done so far, for metrics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nemoforge::engine {

// Counts of observations in buckets, as Prometheus has them.
class Histogram {
 public:
  explicit Histogram(std::span<const double> upper_bounds)
      : upper_bounds_(upper_bounds.begin(), upper_bounds.end()), counts_(upper_bounds.size() + 1, 0) {}

  void observe(double value) {
    size_t bucket = 0;
    while (bucket < upper_bounds_.size() && value > upper_bounds_[bucket]) ++bucket;
    ++counts_[bucket];
    sum_ += value;
  }

  [[nodiscard]] const std::vector<double>& upper_bounds() const { return upper_bounds_; }
  // Of each bucket alone, the last one unbounded.
  [[nodiscard]] const std::vector<int64_t>& counts() const { return counts_; }
  [[nodiscard]] double sum() const { return sum_; }

 private:
  std::vector<double> upper_bounds_;
  std::vector<int64_t> counts_;
  double sum_ = 0;
};

// Bounds in seconds: those of vLLM's histograms, so that dashboards made for it fit.
inline constexpr double kTimeToFirstTokenBounds[] = {0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                                                     0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                                                     20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
inline constexpr double kInterTokenLatencyBounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                                                      0.3,  0.4,   0.5,  0.75,  1.0, 2.5,  5.0,
                                                      7.5,  10.0,  20.0, 40.0,  80.0};
inline constexpr double kRequestLatencyBounds[] = {0.3,  0.5,   0.8,   1.0,   1.5,   2.0,    2.5,
                                                   5.0,  10.0,  15.0,  20.0,  30.0,  40.0,   50.0,
                                                   60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};

struct EngineStats {
  // Now.
  int64_t num_running = 0;  // sequences
  int64_t num_waiting = 0;
  int64_t num_blocks = 0;
  int64_t num_free_blocks = 0;  // with those that the prefix cache would give up
  int64_t num_state_slots = 0;
  int64_t num_free_state_slots = 0;  // likewise
  int64_t num_cached_blocks = 0;     // of the free ones, kept by the prefix cache
  int64_t num_cached_snapshots = 0;

  // Since the start.
  int64_t num_steps = 0;
  double step_s = 0;     // time in steps
  double forward_s = 0;  // of it in the model
  int64_t num_preemptions = 0;
  int64_t prompt_tokens = 0;         // of requests whose prompt was completed
  int64_t prefilled_tokens = 0;      // that passed through the model in prompts
  int64_t prefix_cache_queries = 0;  // prompt tokens that were looked for
  int64_t prefix_cache_hits = 0;     // and found
  int64_t generation_tokens = 0;     // emitted
  int64_t finished_stop = 0;         // completions, by finish reason
  int64_t finished_length = 0;
  int64_t finished_abort = 0;
  int64_t finished_error = 0;
  Histogram time_to_first_token_s{kTimeToFirstTokenBounds};
  Histogram inter_token_latency_s{kInterTokenLatencyBounds};
  Histogram request_latency_s{kRequestLatencyBounds};  // arrival to end, of each completion
  Histogram queue_time_s{kRequestLatencyBounds};       // arrival to the first step that works on it
};

}  // namespace nemoforge::engine
