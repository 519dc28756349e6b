// What an adapter adds to the time of its linear layer.
#include <algorithm>

#include <benchmark/benchmark.h>

#include "ops/backend.h"
#include "ops/lora/lora.h"
#include "ops/machine_peak.h"
#include "ops/random_tensor.h"

namespace nemoforge::ops {
namespace {

// Arguments: rows, in_features, out_features, rank.
void lora_add(benchmark::State& state) {
  const int64_t num_rows = state.range(0);
  const int64_t in = state.range(1);
  const int64_t out = state.range(2);
  Rng rng(1);
  const Tensor x = random_tensor(rng, DType::kBF16, {num_rows, in});
  const Tensor w = random_tensor(rng, DType::kBF16, {out, in}, 0.02);
  const Tensor a = random_tensor(rng, DType::kBF16, {state.range(3), in}, 0.02);
  const Tensor b = random_tensor(rng, DType::kBF16, {out, state.range(3)}, 0.02);
  Tensor y = make_host_tensor(DType::kBF16, {num_rows, out});
  const LinearWeight layer{w.view(), {}};
  const LoraWeight adapter{a.view(), b.view(), 1};
  const LoraRun run{0, num_rows, &adapter};
  const auto backend = make_cpu_backend();
  double base = 1e30;
  double added = 1e30;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      base = std::min(base, fastest_seconds(2, [&](int) {
                        backend->linear({x.view(), &layer, 0, y.view()});
                      }));
      added = std::min(added, fastest_seconds(2, [&](int) {
                         backend->lora_add({.x = x.view(), .runs = {&run, 1}, .out = y.view()});
                       }));
    }
  }
  state.counters["us"] = added * 1e6;
  state.counters["of_linear"] = added / base;
}
BENCHMARK(lora_add)
    ->Args({1, 2688, 10304, 16})
    ->Args({1, 2688, 10304, 64})
    ->Args({256, 2688, 10304, 16})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
