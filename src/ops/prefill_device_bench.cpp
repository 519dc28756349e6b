// The ops of a prefill on the GPU, at Nemotron-3-Nano's shapes in bf16, beside the rate of a large plain
// matrix product measured in the same run (of_matmul). Reports an error where there is no GPU.
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "ops/device_bench_support.h"
#include "ops/ragged_batch.h"

namespace nemoforge::ops {
namespace {

void report(benchmark::State& state, Backend& backend, double seconds, double flop, double bytes) {
  state.counters["us"] = seconds * 1e6;
  state.counters["TFLOP/s"] = flop / seconds / 1e12;
  state.counters["of_matmul"] = flop / seconds / device_matmul_flops(backend);
  state.counters["GB/s"] = bytes / seconds / 1e9;
}

// Arguments: tokens (each visits 6 of 128 experts), in_features, out_features. Groups are uneven: from a
// quarter of the mean to twice the mean.
void grouped_linear_device(benchmark::State& state) {
  Backend* backend = device(state);
  if (backend == nullptr) return;
  constexpr int64_t kNumExperts = 128;
  const int64_t in = state.range(1);
  const int64_t out_features = state.range(2);
  const int64_t mean = state.range(0) * 6 / kNumExperts;
  Tensor offsets_host = make_host_tensor(DType::kI32, {kNumExperts + 1});
  int32_t* offsets_values = offsets_host.view().data<int32_t>();
  offsets_values[0] = 0;
  for (int64_t i = 0; i < kNumExperts; ++i) {
    const int64_t rows = mean * (8 + i * 37 % 57) / 32;
    offsets_values[i + 1] = offsets_values[i] + static_cast<int32_t>(rows);
  }
  const int64_t num_rows = offsets_values[kNumExperts];
  const DeviceTensor offsets(*backend, {kNumExperts + 1}, offsets_host);
  const DeviceTensor stacked = random_device_tensor(*backend, {kNumExperts, out_features, in}, 4, 0.02);
  const DeviceTensor x = random_device_tensor(*backend, {num_rows, in}, 5);
  const DeviceTensor out = random_device_tensor(*backend, {num_rows, out_features}, 6);
  std::vector<LinearWeight> weights;
  for (int64_t i = 0; i < kNumExperts; ++i) {
    auto* expert = static_cast<char*>(stacked.view().raw()) + i * in * out_features * 2;
    weights.push_back({TensorView(expert, DType::kBF16, Shape{out_features, in}), {}});
  }
  for (auto _ : state) {
    const double seconds = seconds_per_call(*backend, [&] {
      backend->grouped_linear({x.view(), offsets.view(), weights, out.view()});
    });
    report(state, *backend, seconds, 2.0 * static_cast<double>(num_rows * in * out_features),
           2.0 * static_cast<double>(kNumExperts * in * out_features + num_rows * (in + out_features)));
  }
}
BENCHMARK(grouped_linear_device)
    ->Args({8192, 2688, 1856})
    ->Args({8192, 1856, 2688})
    ->Args({2048, 2688, 1856})
    ->Args({256, 2688, 1856})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// Arguments: rows of a sequence, sequences. Operations are counted as the recurrence has them (4 head_dim
// state_size a head and row); bytes are x, B, C, dt and y.
void ssd_scan_device(benchmark::State& state) {
  Backend* backend = device(state);
  if (backend == nullptr) return;
  const std::vector<SequenceCase> sequences(static_cast<size_t>(state.range(1)),
                                            {.num_rows = state.range(0)});
  const RaggedBatch batch(*backend, sequences);
  const int64_t num_tokens = batch.rows().num_tokens;
  SsdScanArgs args;
  args.rows = &batch.rows();
  args.num_heads = 64;
  args.head_dim = 64;
  args.num_groups = 8;
  args.state_size = 128;
  args.chunk_size = 128;
  const DeviceTensor x = random_device_tensor(*backend, {num_tokens, 4096}, 1);
  const DeviceTensor b = random_device_tensor(*backend, {num_tokens, 1024}, 2, 0.3);
  const DeviceTensor c = random_device_tensor(*backend, {num_tokens, 1024}, 3, 0.3);
  const DeviceTensor dt = random_device_tensor(*backend, {num_tokens, 64}, 4);
  const DeviceTensor heads = random_device_tensor(*backend, {64}, 5, 0.5, DType::kF32);
  const DeviceTensor ssm_state =
      random_device_tensor(*backend, {batch.num_slots(), 64, 64, 128}, 6, 0.1, DType::kF32);
  const DeviceTensor y = random_device_tensor(*backend, {num_tokens, 4096}, 7);
  args.x = x.view();
  args.b = b.view();
  args.c = c.view();
  args.dt_raw = dt.view();
  args.a_log = args.d = args.dt_bias = heads.view();
  args.ssm_state = ssm_state.view();
  args.y = y.view();
  for (auto _ : state) {
    const double seconds = seconds_per_call(*backend, [&] { backend->ssd_scan(args); });
    report(state, *backend, seconds, 4.0 * static_cast<double>(num_tokens * 64 * 64 * 128),
           2.0 * static_cast<double>(num_tokens * (2 * 4096 + 2 * 1024 + 64)));
  }
}
BENCHMARK(ssd_scan_device)
    ->Args({8192, 1})
    ->Args({1024, 1})
    ->Args({1024, 8})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// Arguments: rows, context before them. Operations: 4 head_dim a head and visible key.
void attention_device(benchmark::State& state) {
  Backend* backend = device(state);
  if (backend == nullptr) return;
  const int64_t num_rows = state.range(0);
  const int64_t context_len = state.range(1);
  const std::vector<SequenceCase> sequences = {{.num_rows = num_rows, .context_len = context_len}};
  const RaggedBatch batch(*backend, sequences);
  const DeviceTensor q = random_device_tensor(*backend, {num_rows, 32 * 128}, 1);
  const DeviceTensor k = random_device_tensor(*backend, {batch.num_blocks(), 16, 2 * 128}, 2);
  const DeviceTensor v = random_device_tensor(*backend, {batch.num_blocks(), 16, 2 * 128}, 3);
  const DeviceTensor out = random_device_tensor(*backend, {num_rows, 32 * 128}, 4);
  const AttentionArgs args{.rows = &batch.rows(),
                           .q = q.view(),
                           .cache = {k.view(), v.view()},
                           .num_heads = 32,
                           .num_kv_heads = 2,
                           .head_dim = 128,
                           .scale = 0.088f,
                           .out = out.view()};
  const double num_scores = static_cast<double>(2 * num_rows * context_len + num_rows * (num_rows + 1)) / 2;
  for (auto _ : state) {
    const double seconds = seconds_per_call(*backend, [&] { backend->attention(args); });
    report(state, *backend, seconds, 4.0 * num_scores * 32 * 128,
           2.0 * static_cast<double>(num_rows * 2 * 32 * 128 + (num_rows + context_len) * 2 * 256));
  }
}
BENCHMARK(attention_device)
    ->Args({8192, 0})
    ->Args({1024, 0})
    ->Args({2048, 32768})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
