// The convolution beside the machine's bandwidth; one row shows what a call costs in a decode step.
#include <algorithm>
#include <vector>

#include <benchmark/benchmark.h>

#include "ops/machine_peak.h"
#include "ops/ragged_batch.h"
#include "ops/random_tensor.h"

namespace nemoforge::ops {
namespace {

// Arguments: rows (1: decode), channels, whether bf16. Rows and the output move; a decode row moves weights
// and state.
void causal_conv1d(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const int64_t num_rows = state.range(0);
  const int64_t channels = state.range(1);
  const DType dtype = state.range(2) != 0 ? DType::kBF16 : DType::kF32;
  const std::vector<SequenceCase> sequences = {
      {.num_rows = num_rows, .context_len = 5, .decode = num_rows == 1}};
  const RaggedBatch batch(*backend, sequences);
  Rng rng(1);
  const Tensor x = random_tensor(rng, dtype, {num_rows, channels});
  const Tensor weight = random_tensor(rng, dtype, {channels, 4}, 0.5);
  const Tensor bias = random_tensor(rng, dtype, {channels});
  Tensor conv_state = random_tensor(rng, dtype, {batch.num_slots(), 3, channels});
  Tensor out = make_host_tensor(dtype, {num_rows, channels});
  double seconds = 1e30;
  double peak = 0;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      peak = std::max(peak, measure_read_gb_per_s(ThreadPool::global()));
      seconds = std::min(seconds, fastest_seconds(50, [&](int) {
                           backend->causal_conv1d({.rows = &batch.rows(),
                                                   .x = x.view(),
                                                   .weight = weight.view(),
                                                   .bias = bias.view(),
                                                   .conv_state = conv_state.view(),
                                                   .out = out.view()});
                         }));
    }
  }
  const double bytes = static_cast<double>((2 * num_rows + 11) * channels * dtype_bytes(dtype));
  state.counters["us"] = seconds * 1e6;
  state.counters["GB/s"] = bytes / seconds / 1e9;
  state.counters["of_read"] = bytes / seconds / 1e9 / peak;
}
BENCHMARK(causal_conv1d)
    ->Args({1, 1024, 0})
    ->Args({1, 6144, 1})
    ->Args({4096, 6144, 1})
    ->Args({4096, 6144, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
