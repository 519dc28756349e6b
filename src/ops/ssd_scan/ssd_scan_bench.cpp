// Decode beside the machine's bandwidth (the state is read and written), prefill beside its arithmetic peak.
// The operations counted for prefill are the recurrence's own, 4 head_dim state_size a head and row beside D
// x.
#include <algorithm>
#include <vector>

#include <benchmark/benchmark.h>

#include "ops/fma_peak.h"
#include "ops/machine_peak.h"
#include "ops/ragged_batch.h"
#include "ops/random_tensor.h"

namespace nemoforge::ops {
namespace {

struct Problem {
  Problem(Backend& backend, std::vector<SequenceCase> sequences, bool nemotron, DType dtype)
      : batch(backend, sequences) {
    Rng rng(1);
    args.num_heads = nemotron ? 64 : 16;
    args.head_dim = nemotron ? 64 : 32;
    args.num_groups = nemotron ? 8 : 4;
    args.state_size = nemotron ? 128 : 64;
    args.chunk_size = nemotron ? 128 : 64;
    const int64_t num_tokens = batch.rows().num_tokens;
    args.rows = &batch.rows();
    x = random_tensor(rng, dtype, {num_tokens, args.num_heads * args.head_dim});
    bc = random_tensor(rng, dtype, {num_tokens, args.num_groups * args.state_size}, 0.1);
    dt = random_tensor(rng, dtype, {num_tokens, args.num_heads});
    heads = random_tensor(rng, DType::kF32, {args.num_heads}, 0.5, -1);
    y = make_host_tensor(dtype, x.view().shape());
    state =
        make_host_tensor(DType::kF32, {batch.num_slots(), args.num_heads, args.head_dim, args.state_size});
    std::fill_n(state.view().data<float>(), state.view().numel(), 0.1f);
    args.x = x.view();
    args.b = args.c = bc.view();
    args.dt_raw = dt.view();
    args.a_log = args.d = args.dt_bias = heads.view();
    args.ssm_state = state.view();
    args.y = y.view();
  }
  RaggedBatch batch;
  Tensor x, bc, dt, heads, y, state;
  SsdScanArgs args;
};

// Arguments: sequences, whether Nemotron's shapes (else the demo checkpoint's).
void ssd_scan_decode(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const std::vector<SequenceCase> sequences(static_cast<size_t>(state.range(0)),
                                            {.num_rows = 1, .context_len = 10, .decode = true});
  Problem problem(*backend, sequences, state.range(1) != 0, DType::kF32);
  double seconds = 1e30;
  double peak = 0;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      peak = std::max(peak, measure_read_gb_per_s(ThreadPool::global()));
      seconds = std::min(seconds, fastest_seconds(20, [&](int) { backend->ssd_scan(problem.args); }));
    }
  }
  const SsdScanArgs& args = problem.args;
  const double bytes =
      8.0 * static_cast<double>(state.range(0) * args.num_heads * args.head_dim * args.state_size);
  state.counters["us"] = seconds * 1e6;
  state.counters["GB/s"] = bytes / seconds / 1e9;
  state.counters["of_read"] = bytes / seconds / 1e9 / peak;
}
BENCHMARK(ssd_scan_decode)
    ->Args({1, 1})
    ->Args({8, 1})
    ->Args({64, 1})
    ->Args({1, 0})
    ->Args({8, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// Arguments: rows of the one sequence, whether Nemotron's shapes, whether bf16.
void ssd_scan_prefill(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  Problem problem(*backend, {{.num_rows = state.range(0)}}, state.range(1) != 0,
                  state.range(2) != 0 ? DType::kBF16 : DType::kF32);
  double seconds = 1e30;
  double peak = 0;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      peak = std::max(peak, measure_fma_gflop_per_s(ThreadPool::global()));
      seconds = std::min(seconds, fastest_seconds(3, [&](int) { backend->ssd_scan(problem.args); }));
    }
  }
  const SsdScanArgs& args = problem.args;
  const double gflop =
      4e-9 * static_cast<double>(state.range(0) * args.num_heads * args.head_dim * args.state_size);
  state.counters["us/row"] = seconds * 1e6 / static_cast<double>(state.range(0));
  state.counters["GFLOP/s"] = gflop / seconds;
  state.counters["of_fma"] = gflop / seconds / peak;
}
BENCHMARK(ssd_scan_prefill)
    ->Args({512, 1, 0})
    ->Args({512, 1, 1})
    ->Args({64, 1, 0})
    ->Args({64, 1, 1})
    ->Args({16, 1, 0})
    ->Args({8, 1, 0})
    ->Args({512, 0, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
