// The row-wise ops around a mixer beside the machine's bandwidth; one row shows what a call costs in a decode
// step.
#include <algorithm>

#include <benchmark/benchmark.h>

#include "ops/backend.h"
#include "ops/machine_peak.h"
#include "ops/random_tensor.h"

namespace nemoforge::ops {
namespace {

template <typename Call>
void measure(benchmark::State& state, double bytes, const Call& call) {
  double seconds = 1e30;
  double peak = 0;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      peak = std::max(peak, measure_read_gb_per_s(ThreadPool::global()));
      seconds = std::min(seconds, fastest_seconds(50, [&](int) { call(); }));
    }
  }
  state.counters["us"] = seconds * 1e6;
  state.counters["GB/s"] = bytes / seconds / 1e9;
  state.counters["of_read"] = bytes / seconds / 1e9 / peak;
}

// Arguments: rows, hidden_size, whether bf16.
void add_rms_norm(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const DType dtype = state.range(2) != 0 ? DType::kBF16 : DType::kF32;
  Rng rng(1);
  Tensor residual = random_tensor(rng, dtype, {state.range(0), state.range(1)});
  const Tensor delta = random_tensor(rng, dtype, {state.range(0), state.range(1)}, 1e-3);
  const Tensor weight = random_tensor(rng, dtype, {state.range(1)});
  Tensor out = make_host_tensor(dtype, {state.range(0), state.range(1)});
  const double bytes = 4.0 * static_cast<double>(residual.view().numel() * dtype_bytes(dtype));
  measure(state, bytes, [&] {
    backend->add_rms_norm({.residual = residual.view(),
                           .delta = delta.view(),
                           .weight = weight.view(),
                           .epsilon = 1e-5f,
                           .out = out.view()});
  });
}
BENCHMARK(add_rms_norm)
    ->Args({1, 256, 0})
    ->Args({1, 2688, 1})
    ->Args({8, 2688, 1})
    ->Args({8192, 2688, 1})
    ->Args({8192, 2688, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// Arguments: rows, channels, groups, whether bf16.
void gated_rms_norm(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const DType dtype = state.range(3) != 0 ? DType::kBF16 : DType::kF32;
  Rng rng(1);
  const Tensor y = random_tensor(rng, dtype, {state.range(0), state.range(1)});
  const Tensor z = random_tensor(rng, dtype, {state.range(0), state.range(1)});
  const Tensor weight = random_tensor(rng, dtype, {state.range(1)});
  Tensor out = make_host_tensor(dtype, {state.range(0), state.range(1)});
  const double bytes = 3.0 * static_cast<double>(y.view().numel() * dtype_bytes(dtype));
  measure(state, bytes, [&] {
    backend->gated_rms_norm({.y = y.view(),
                             .z = z.view(),
                             .weight = weight.view(),
                             .num_groups = state.range(2),
                             .epsilon = 1e-5f,
                             .out = out.view()});
  });
}
BENCHMARK(gated_rms_norm)
    ->Args({1, 512, 4, 0})
    ->Args({1, 4096, 8, 1})
    ->Args({4096, 4096, 8, 1})
    ->Args({4096, 4096, 8, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
