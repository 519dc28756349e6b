// The sorting of rows by expert, their way back and the router, beside the machine's read bandwidth.
#include <algorithm>

#include <benchmark/benchmark.h>

#include "ops/backend.h"
#include "ops/machine_peak.h"
#include "ops/moe/moe.h"
#include "ops/random_tensor.h"

namespace nemoforge::ops {
namespace {

// Argument: tokens. Nemotron's sizes.
void moe_around_the_experts(benchmark::State& state) {
  constexpr int64_t kExperts = 128;
  constexpr int64_t kTopK = 6;
  constexpr int64_t kHidden = 2688;
  const int64_t num_tokens = state.range(0);
  const int64_t num_rows = num_tokens * kTopK;
  Rng rng(1);
  const Tensor x = random_tensor(rng, DType::kBF16, {num_tokens, kHidden});
  const Tensor logits = random_tensor(rng, DType::kF32, {num_tokens, kExperts});
  const Tensor bias = random_tensor(rng, DType::kF32, {kExperts}, 0.1);
  Tensor ids = make_host_tensor(DType::kI32, {num_tokens, kTopK});
  Tensor weights = make_host_tensor(DType::kF32, {num_tokens, kTopK});
  Tensor offsets = make_host_tensor(DType::kI32, {kExperts + 1});
  Tensor row_tokens = make_host_tensor(DType::kI32, {num_rows});
  Tensor row_of = make_host_tensor(DType::kI32, {num_tokens, kTopK});
  Tensor rows = make_host_tensor(DType::kBF16, {num_rows, kHidden});
  Tensor out = make_host_tensor(DType::kBF16, {num_tokens, kHidden});
  const auto backend = make_cpu_backend();
  double router = 1e30;
  double dispatch = 1e30;
  double combine = 1e30;
  double read_gb_per_s = 0;
  for (auto _ : state) {
    read_gb_per_s = measure_read_gb_per_s(ThreadPool::global());
    router = fastest_seconds(50, [&](int) {
      backend->router({logits.view(), bias.view(), 1, 1, kTopK, true, 2.5f, ids.view(), weights.view()});
    });
    dispatch = fastest_seconds(50, [&](int) {
      backend->moe_dispatch(
          {x.view(), ids.view(), kExperts, offsets.view(), row_tokens.view(), row_of.view(), rows.view()});
    });
    combine = fastest_seconds(50, [&](int) {
      backend->moe_combine({rows.view(), row_of.view(), weights.view(), x.view(), out.view()});
    });
  }
  const auto row_bytes = static_cast<double>(kHidden * 2);
  const auto tokens = static_cast<double>(num_tokens);
  state.counters["router_ns_per_token"] = router / tokens * 1e9;
  state.counters["dispatch_us"] = dispatch * 1e6;
  state.counters["dispatch_GB/s"] = row_bytes * tokens * 2 * kTopK / dispatch / 1e9;
  state.counters["combine_us"] = combine * 1e6;
  state.counters["combine_GB/s"] = row_bytes * tokens * (kTopK + 2) / combine / 1e9;
  state.counters["read_GB/s"] = read_gb_per_s;
}
BENCHMARK(moe_around_the_experts)->Arg(1)->Arg(16)->Arg(512)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
