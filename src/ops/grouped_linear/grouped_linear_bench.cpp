// The routed experts: decode beside the machine's read bandwidth, prefill beside the rate of one linear layer
// with as many rows.
#include <algorithm>
#include <vector>

#include <benchmark/benchmark.h>

#include "ops/backend.h"
#include "ops/grouped_linear/grouped_linear.h"
#include "ops/machine_peak.h"
#include "ops/random_tensor.h"

namespace nemoforge::ops {
namespace {

constexpr int64_t kNumExperts = 24;  // at Nemotron's shapes 240 MB: more than any cache

struct Experts {
  Experts(int64_t in, int64_t out) {
    Rng rng(1);
    for (int64_t i = 0; i < kNumExperts; ++i) {
      tensors.push_back(make_host_tensor(DType::kBF16, {out, in}));
      const Tensor pattern = random_tensor(rng, DType::kBF16, {1, in}, 0.02);
      for (int64_t n = 0; n < out; ++n) {
        std::copy_n(pattern.view().data<Bf16>(), in, tensors.back().view().data<Bf16>() + n * in);
      }
      weights.push_back({tensors.back().view(), {}});
    }
  }
  std::vector<Tensor> tensors;
  std::vector<LinearWeight> weights;
};

// `rows_each` rows for `num_active` experts in turn, beginning with `first`.
Tensor make_offsets(int64_t first, int64_t num_active, int64_t rows_each) {
  Tensor offsets = make_host_tensor(DType::kI32, {kNumExperts + 1});
  int32_t* values = offsets.view().data<int32_t>();
  values[0] = 0;
  for (int64_t expert = 0; expert < kNumExperts; ++expert) {
    const bool is_active = (expert - first + kNumExperts) % kNumExperts < num_active;
    values[expert + 1] = values[expert] + static_cast<int32_t>(is_active ? rows_each : 0);
  }
  return offsets;
}

// Arguments: in_features, out_features. A token of decode visits 6 experts.
void grouped_linear_decode(benchmark::State& state) {
  constexpr int64_t kTopK = 6;
  const int64_t in = state.range(0);
  const int64_t out = state.range(1);
  const Experts experts(in, out);
  Rng rng(2);
  const Tensor x = random_tensor(rng, DType::kBF16, {kTopK, in});
  Tensor y = make_host_tensor(DType::kBF16, {kTopK, out});
  std::vector<Tensor> offsets;
  for (int64_t first = 0; first < kNumExperts; first += kTopK) {
    offsets.push_back(make_offsets(first, kTopK, 1));
  }
  const auto backend = make_cpu_backend();
  double seconds = 1e30;
  double read_gb_per_s = 0;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      read_gb_per_s = std::max(read_gb_per_s, measure_read_gb_per_s(ThreadPool::global()));
      seconds = std::min(seconds, fastest_seconds(3, [&](int) {
                           for (const Tensor& part : offsets) {
                             backend->grouped_linear({x.view(), part.view(), experts.weights, y.view()});
                           }
                         }));
    }
  }
  const double gb_per_s = static_cast<double>(kNumExperts * in * out * 2) / seconds / 1e9;
  state.counters["GB/s"] = gb_per_s;
  state.counters["of_read"] = gb_per_s / read_gb_per_s;
}
BENCHMARK(grouped_linear_decode)
    ->Args({2688, 1856})
    ->Args({1856, 2688})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// Arguments: in_features, out_features, rows of each expert.
void grouped_linear_prefill(benchmark::State& state) {
  const int64_t in = state.range(0);
  const int64_t out = state.range(1);
  const int64_t num_rows = state.range(2) * kNumExperts;
  const Experts experts(in, out);
  Rng rng(2);
  const Tensor x = random_tensor(rng, DType::kBF16, {num_rows, in});
  Tensor y = make_host_tensor(DType::kBF16, {num_rows, out});
  const Tensor offsets = make_offsets(0, kNumExperts, state.range(2));
  const auto backend = make_cpu_backend();
  double grouped = 1e30;
  double linear = 1e30;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      grouped = std::min(grouped, fastest_seconds(1, [&](int) {
                           backend->grouped_linear({x.view(), offsets.view(), experts.weights, y.view()});
                         }));
      linear = std::min(linear, fastest_seconds(1, [&](int) {
                          backend->linear({x.view(), experts.weights.data(), 0, y.view()});
                        }));
    }
  }
  const double gflop = 2e-9 * static_cast<double>(num_rows * in * out);
  state.counters["GFLOP/s"] = gflop / grouped;
  state.counters["of_linear"] = linear / grouped;
}
BENCHMARK(grouped_linear_prefill)
    ->Args({2688, 1856, 4})
    ->Args({2688, 1856, 24})
    ->Args({1856, 2688, 24})
    ->Args({2688, 1856, 96})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
