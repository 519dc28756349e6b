// The backward of the norms, the convolution, the scan and attention on the GPU, at Nemotron-3-Nano's shapes
// in bf16, beside their floors: the operations that the formulas need at the rate of a large matrix product,
// or the bytes that must move (each input read once, each gradient read and written once) at the rate of a
// copy, both measured in the same run. Parameters are frozen, as under LoRA. Reports an error where there is
// no GPU.
#include <algorithm>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "ops/device_bench_support.h"
#include "ops/ragged_batch.h"
#include "ops/training_backend.h"

namespace nemoforge::ops {
namespace {

constexpr int64_t kRows = 4096;

void report(benchmark::State& state, Backend& backend, double seconds, double flop, double bytes) {
  const double floor =
      std::max(flop / device_matmul_flops(backend), bytes / device_copy_bytes_per_s(backend));
  state.counters["us"] = seconds * 1e6;
  state.counters["TFLOP/s"] = flop / seconds / 1e12;
  state.counters["GB/s"] = bytes / seconds / 1e9;
  state.counters["floor_us"] = floor * 1e6;
  state.counters["of_floor"] = floor / seconds;
}

// kRows rows in documents of `length` rows.
RaggedBatch documents_of(Backend& backend, int64_t length) {
  const std::vector<SequenceCase> documents(static_cast<size_t>(kRows / length), {.num_rows = length});
  return RaggedBatch(backend, documents);
}

TrainingBackend* training_on(benchmark::State& state, Backend& backend) {
  static auto training = make_training_backend(backend);
  if (training) return training->get();
  state.SkipWithError(training.error().to_string().c_str());
  return nullptr;
}

// Zeros, which a benchmark's gradients begin with.
DeviceTensor zeros(Backend& backend, const Shape& shape, DType dtype = DType::kBF16) {
  return random_device_tensor(backend, shape, 1, 0, dtype);
}

void rms_norm_backward_device(benchmark::State& state) {
  Backend* backend = device(state);
  TrainingBackend* training = backend == nullptr ? nullptr : training_on(state, *backend);
  if (training == nullptr) return;
  constexpr int64_t kSize = 2688;
  const DeviceTensor x = random_device_tensor(*backend, {kRows, kSize}, 1, 1, DType::kF32);
  const DeviceTensor weight = random_device_tensor(*backend, {kSize}, 2);
  const DeviceTensor d_out = random_device_tensor(*backend, {kRows, kSize}, 3);
  const DeviceTensor d_x = zeros(*backend, {kRows, kSize}, DType::kF32);
  const RmsNormBackwardArgs args{.x = x.view(),
                                 .weight = weight.view(),
                                 .epsilon = 1e-5f,
                                 .d_out = d_out.view(),
                                 .d_x = d_x.view(),
                                 .d_weight = {}};
  for (auto _ : state) {
    const double seconds = seconds_per_call(*backend, [&] { training->rms_norm_backward(args); });
    report(state, *backend, seconds, 0, static_cast<double>(kRows * kSize * (4 + 2 + 8)));
  }
}
BENCHMARK(rms_norm_backward_device)->Iterations(1)->Unit(benchmark::kMillisecond);

void gated_rms_norm_backward_device(benchmark::State& state) {
  Backend* backend = device(state);
  TrainingBackend* training = backend == nullptr ? nullptr : training_on(state, *backend);
  if (training == nullptr) return;
  constexpr int64_t kChannels = 4096;
  const DeviceTensor y = random_device_tensor(*backend, {kRows, kChannels}, 1, 1, DType::kF32);
  const DeviceTensor z = random_device_tensor(*backend, {kRows, kChannels}, 2);
  const DeviceTensor weight = random_device_tensor(*backend, {kChannels}, 3);
  const DeviceTensor d_out = random_device_tensor(*backend, {kRows, kChannels}, 4);
  const DeviceTensor d_y = zeros(*backend, {kRows, kChannels});
  const DeviceTensor d_z = zeros(*backend, {kRows, kChannels});
  const GatedRmsNormBackwardArgs args{.y = y.view(),
                                      .z = z.view(),
                                      .weight = weight.view(),
                                      .num_groups = 8,
                                      .epsilon = 1e-5f,
                                      .d_out = d_out.view(),
                                      .d_y = d_y.view(),
                                      .d_z = d_z.view(),
                                      .d_weight = {}};
  for (auto _ : state) {
    const double seconds = seconds_per_call(*backend, [&] { training->gated_rms_norm_backward(args); });
    report(state, *backend, seconds, 0, static_cast<double>(kRows * kChannels * (4 + 2 + 2 + 4 + 4)));
  }
}
BENCHMARK(gated_rms_norm_backward_device)->Iterations(1)->Unit(benchmark::kMillisecond);

// Argument: rows of a document.
void causal_conv1d_backward_device(benchmark::State& state) {
  Backend* backend = device(state);
  TrainingBackend* training = backend == nullptr ? nullptr : training_on(state, *backend);
  if (training == nullptr) return;
  constexpr int64_t kChannels = 6144;
  const RaggedBatch batch = documents_of(*backend, state.range(0));
  const DeviceTensor x = random_device_tensor(*backend, {kRows, kChannels}, 1);
  const DeviceTensor weight = random_device_tensor(*backend, {kChannels, 4}, 2);
  const DeviceTensor bias = random_device_tensor(*backend, {kChannels}, 3);
  const DeviceTensor d_out = random_device_tensor(*backend, {kRows, kChannels}, 4);
  const DeviceTensor d_x = zeros(*backend, {kRows, kChannels});
  const CausalConv1dBackwardArgs args{.rows = &batch.rows(),
                                      .x = x.view(),
                                      .weight = weight.view(),
                                      .bias = bias.view(),
                                      .d_out = d_out.view(),
                                      .d_x = d_x.view(),
                                      .d_weight = {},
                                      .d_bias = {}};
  for (auto _ : state) {
    const double seconds = seconds_per_call(*backend, [&] { training->causal_conv1d_backward(args); });
    report(state, *backend, seconds, 0, static_cast<double>(kRows * kChannels * (2 + 2 + 4)));
  }
}
BENCHMARK(causal_conv1d_backward_device)->Arg(4096)->Arg(256)->Iterations(1)->Unit(benchmark::kMillisecond);

// Argument: rows of a document. Operations are counted as the recurrence has them: the state and its gradient
// forward and back, and their products with d_y, x and B (10 head_dim state_size a head and row).
void ssd_scan_backward_device(benchmark::State& state) {
  Backend* backend = device(state);
  TrainingBackend* training = backend == nullptr ? nullptr : training_on(state, *backend);
  if (training == nullptr) return;
  constexpr int64_t kHeads = 64;
  constexpr int64_t kHeadDim = 64;
  constexpr int64_t kGroups = 8;
  constexpr int64_t kState = 128;
  const RaggedBatch batch = documents_of(*backend, state.range(0));
  const DeviceTensor x = random_device_tensor(*backend, {kRows, kHeads * kHeadDim}, 1);
  const DeviceTensor b = random_device_tensor(*backend, {kRows, kGroups * kState}, 2, 0.3);
  const DeviceTensor c = random_device_tensor(*backend, {kRows, kGroups * kState}, 3, 0.3);
  const DeviceTensor dt_raw = random_device_tensor(*backend, {kRows, kHeads}, 4);
  const DeviceTensor heads = random_device_tensor(*backend, {kHeads}, 5, 0.5, DType::kF32);
  const DeviceTensor d_y = random_device_tensor(*backend, {kRows, kHeads * kHeadDim}, 6);
  const DeviceTensor d_x = zeros(*backend, {kRows, kHeads * kHeadDim});
  const DeviceTensor d_b = zeros(*backend, {kRows, kGroups * kState});
  const DeviceTensor d_c = zeros(*backend, {kRows, kGroups * kState});
  const DeviceTensor d_dt_raw = zeros(*backend, {kRows, kHeads});
  const SsdScanBackwardArgs args{.rows = &batch.rows(),
                                 .x = x.view(),
                                 .b = b.view(),
                                 .c = c.view(),
                                 .dt_raw = dt_raw.view(),
                                 .a_log = heads.view(),
                                 .d = heads.view(),
                                 .dt_bias = heads.view(),
                                 .num_heads = kHeads,
                                 .head_dim = kHeadDim,
                                 .num_groups = kGroups,
                                 .state_size = kState,
                                 .d_y = d_y.view(),
                                 .d_x = d_x.view(),
                                 .d_b = d_b.view(),
                                 .d_c = d_c.view(),
                                 .d_dt_raw = d_dt_raw.view(),
                                 .d_a_log = {},
                                 .d_d = {},
                                 .d_dt_bias = {}};
  for (auto _ : state) {
    const double seconds = seconds_per_call(*backend, [&] { training->ssd_scan_backward(args); });
    report(state, *backend, seconds, 10.0 * static_cast<double>(kRows * kHeads * kHeadDim * kState),
           static_cast<double>(kRows * (kHeads * kHeadDim * 8 + kGroups * kState * 12 + kHeads * 6)));
  }
}
BENCHMARK(ssd_scan_backward_device)->Arg(4096)->Arg(256)->Iterations(1)->Unit(benchmark::kMillisecond);

// Argument: rows of a document. Operations: five products of a visible (query, key) pair and head, the
// weights computed again once.
void attention_backward_device(benchmark::State& state) {
  Backend* backend = device(state);
  TrainingBackend* training = backend == nullptr ? nullptr : training_on(state, *backend);
  if (training == nullptr) return;
  constexpr int64_t kHeads = 32;
  constexpr int64_t kKvHeads = 2;
  constexpr int64_t kHeadDim = 128;
  const int64_t length = state.range(0);
  const RaggedBatch batch = documents_of(*backend, length);
  const DeviceTensor q = random_device_tensor(*backend, {kRows, kHeads * kHeadDim}, 1);
  const DeviceTensor k = random_device_tensor(*backend, {kRows, kKvHeads * kHeadDim}, 2);
  const DeviceTensor v = random_device_tensor(*backend, {kRows, kKvHeads * kHeadDim}, 3);
  const DeviceTensor d_out = random_device_tensor(*backend, {kRows, kHeads * kHeadDim}, 4);
  const DeviceTensor d_q = zeros(*backend, {kRows, kHeads * kHeadDim});
  const DeviceTensor d_k = zeros(*backend, {kRows, kKvHeads * kHeadDim});
  const DeviceTensor d_v = zeros(*backend, {kRows, kKvHeads * kHeadDim});
  const AttentionBackwardArgs args{.rows = &batch.rows(),
                                   .q = q.view(),
                                   .k = k.view(),
                                   .v = v.view(),
                                   .num_heads = kHeads,
                                   .num_kv_heads = kKvHeads,
                                   .head_dim = kHeadDim,
                                   .scale = 0.088f,
                                   .d_out = d_out.view(),
                                   .d_q = d_q.view(),
                                   .d_k = d_k.view(),
                                   .d_v = d_v.view()};
  const int64_t num_documents = kRows / length;
  const double pairs = static_cast<double>(num_documents * length * (length + 1)) / 2;
  for (auto _ : state) {
    const double seconds = seconds_per_call(*backend, [&] { training->attention_backward(args); });
    report(state, *backend, seconds, 10.0 * pairs * kHeads * kHeadDim,
           static_cast<double>(kRows * kHeadDim * (kHeads * 8 + kKvHeads * 12)));
  }
}
BENCHMARK(attention_backward_device)->Arg(4096)->Arg(256)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
