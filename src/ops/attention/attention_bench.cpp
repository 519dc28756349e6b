// Decode beside the machine's bandwidth (keys and values are read once), both beside its arithmetic peak.
#include <algorithm>
#include <cstring>
#include <vector>

#include <benchmark/benchmark.h>

#include "ops/fma_peak.h"
#include "ops/machine_peak.h"
#include "ops/ragged_batch.h"
#include "ops/random_tensor.h"

namespace nemoforge::ops {
namespace {

// Arguments: rows (1: decode), context, whether Nemotron's 32/2 heads of 128 (else the demo's 8/2 of 32),
// whether bf16.
void attention(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const int64_t num_rows = state.range(0);
  const int64_t context_len = state.range(1);
  const bool nemotron = state.range(2) != 0;
  const DType dtype = state.range(3) != 0 ? DType::kBF16 : DType::kF32;
  const std::vector<SequenceCase> sequences = {
      {.num_rows = num_rows, .context_len = context_len, .decode = num_rows == 1}};
  const RaggedBatch batch(*backend, sequences);
  AttentionArgs args{.rows = &batch.rows(), .q = {}, .cache = {}, .num_kv_heads = 2, .out = {}};
  args.num_heads = nemotron ? 32 : 8;
  args.head_dim = nemotron ? 128 : 32;
  args.scale = 0.1f;
  Rng rng(1);
  const Tensor q = random_tensor(rng, dtype, {num_rows, args.num_heads * args.head_dim});
  const Tensor row = random_tensor(rng, dtype, {1, 2 * args.head_dim});
  Tensor cache = make_host_tensor(dtype, {batch.num_blocks(), 16, 2 * args.head_dim});
  const auto row_bytes = static_cast<size_t>(2 * args.head_dim * dtype_bytes(dtype));
  for (int64_t i = 0; i < batch.num_blocks() * 16; ++i) {
    std::memcpy(static_cast<char*>(cache.view().raw()) + static_cast<size_t>(i) * row_bytes, row.view().raw(),
                row_bytes);
  }
  Tensor value_cache = copy_rows(cache, 0, batch.num_blocks());
  Tensor out = make_host_tensor(dtype, q.view().shape());
  args.q = q.view();
  args.cache = {cache.view(), value_cache.view()};
  args.out = out.view();

  double seconds = 1e30;
  double fma_peak = 0;
  double read_peak = 0;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      fma_peak = std::max(fma_peak, measure_fma_gflop_per_s(ThreadPool::global()));
      read_peak = std::max(read_peak, measure_read_gb_per_s(ThreadPool::global()));
      seconds = std::min(seconds, fastest_seconds(3, [&](int) { backend->attention(args); }));
    }
  }
  const double num_scores = static_cast<double>(2 * num_rows * context_len + num_rows * (num_rows + 1)) / 2;
  const double gflop = 4e-9 * num_scores * static_cast<double>(args.num_heads * args.head_dim);
  const double bytes = 2.0 * static_cast<double>((context_len + num_rows) * static_cast<int64_t>(row_bytes));
  state.counters["us"] = seconds * 1e6;
  state.counters["GB/s"] = bytes / seconds / 1e9;
  state.counters["of_read"] = bytes / seconds / 1e9 / read_peak;
  state.counters["GFLOP/s"] = gflop / seconds;
  state.counters["of_fma"] = gflop / seconds / fma_peak;
}
BENCHMARK(attention)
    ->Args({1, 1000, 1, 1})
    ->Args({1, 32000, 1, 1})
    ->Args({1, 32000, 1, 0})
    ->Args({1, 1000, 0, 0})
    ->Args({1, 100, 0, 0})
    ->Args({64, 0, 1, 1})
    ->Args({1024, 0, 1, 1})
    ->Args({1024, 0, 1, 0})
    ->Args({64, 8000, 1, 1})
    ->Args({1024, 0, 0, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
