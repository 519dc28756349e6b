// Decode (few rows) beside the machine's read bandwidth, prefill beside oneDNN's rate for the same product;
// ours and the yardstick take turns, so that other work on the machine touches both.
#include <algorithm>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>
#include <dnnl.hpp>

#include "ops/backend.h"
#include "ops/linear/linear.h"
#include "ops/machine_peak.h"
#include "ops/random_tensor.h"

namespace nemoforge::ops {
namespace {

// Copies of a weight that together exceed every cache, visited in turn.
constexpr int64_t kStreamedBytes = int64_t{256} << 20;

struct Problem {
  Problem(int64_t rows, int64_t in, int64_t out, DType x_type, DType weight_type, int64_t num_weights)
      : num_rows(rows), in_features(in), out_features(out) {
    Rng rng(1);
    x = random_tensor(rng, x_type, {rows, in});
    y = make_host_tensor(x_type, {rows, out});
    const Tensor pattern = random_tensor(rng, weight_type, {1, in}, 0.02);
    for (int64_t i = 0; i < num_weights; ++i) {
      weights.push_back(make_host_tensor(weight_type, {out, in}));
      for (int64_t n = 0; n < out; ++n) {
        std::copy_n(static_cast<const char*>(pattern.view().raw()), in * dtype_bytes(weight_type),
                    static_cast<char*>(weights.back().view().rows(n, 1).raw()));
      }
    }
  }

  void run(Backend& backend, int i) {
    const LinearWeight weight{weights[static_cast<size_t>(i) % weights.size()].view(), {}};
    backend.linear({x.view(), &weight, 0, y.view()});
  }

  int64_t num_rows, in_features, out_features;
  Tensor x;
  Tensor y;
  std::vector<Tensor> weights;
};

// oneDNN's matmul of a problem, with its own threads.
class OneDnnProduct {
 public:
  explicit OneDnnProduct(Problem& p) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Memory = dnnl::memory;
    const auto type = [](DType dtype) {
      return dtype == DType::kF32 ? Memory::data_type::f32 : Memory::data_type::bf16;
    };
    const Memory::desc x({p.num_rows, p.in_features}, type(p.x.view().dtype()), Memory::format_tag::ab);
    const Memory::desc w({p.in_features, p.out_features}, type(p.weights[0].view().dtype()),
                         Memory::format_tag::ba);
    const Memory::desc y({p.num_rows, p.out_features}, type(p.y.view().dtype()), Memory::format_tag::ab);
    product_ = dnnl::matmul(dnnl::matmul::primitive_desc(dnnl::matmul::desc(x, w, y), engine_));
    arguments_ = {{DNNL_ARG_SRC, Memory(x, engine_, p.x.view().raw())},
                  {DNNL_ARG_WEIGHTS, Memory(w, engine_, p.weights[0].view().raw())},
                  {DNNL_ARG_DST, Memory(y, engine_, p.y.view().raw())}};
  }

  void run() {
    product_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul product_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

// Arguments: rows, in_features, out_features, whether x is bf16. Weights are bf16.
void linear_decode(benchmark::State& state) {
  const DType x_dtype = state.range(3) != 0 ? DType::kBF16 : DType::kF32;
  const int64_t weight_bytes = state.range(1) * state.range(2) * 2;
  Problem problem(state.range(0), state.range(1), state.range(2), x_dtype, DType::kBF16,
                  std::max<int64_t>(1, kStreamedBytes / weight_bytes));
  const auto backend = make_cpu_backend();
  const auto num_weights = static_cast<int>(problem.weights.size());
  double seconds = 1e30;
  double read_gb_per_s = 0;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      read_gb_per_s = std::max(read_gb_per_s, measure_read_gb_per_s(ThreadPool::global()));
      seconds = std::min(seconds, fastest_seconds(3, [&](int) {
                           for (int i = 0; i < num_weights; ++i) problem.run(*backend, i);
                         }));
    }
  }
  const double gb_per_s = static_cast<double>(weight_bytes * num_weights) / seconds / 1e9;
  state.counters["GB/s"] = gb_per_s;
  state.counters["of_read"] = gb_per_s / read_gb_per_s;
  state.counters["us"] = seconds / num_weights * 1e6;
}
BENCHMARK(linear_decode)
    ->Args({1, 2688, 10304, 1})
    ->Args({1, 4096, 2688, 1})
    ->Args({1, 2688, 131072, 1})
    ->Args({2, 2688, 10304, 1})
    ->Args({4, 2688, 10304, 1})
    ->Args({8, 2688, 10304, 1})
    ->Args({16, 2688, 10304, 1})
    ->Args({1, 2688, 10304, 0})
    ->Args({4, 2688, 10304, 0})
    ->Args({1, 256, 1704, 1})
    ->Args({1, 256, 1704, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// Arguments: rows, in_features, out_features, whether x and the weight are bf16 (else both f32).
void linear_prefill(benchmark::State& state) {
  const DType dtype = state.range(3) != 0 ? DType::kBF16 : DType::kF32;
  Problem problem(state.range(0), state.range(1), state.range(2), dtype, dtype, 1);
  const auto backend = make_cpu_backend();
  OneDnnProduct yardstick(problem);
  double ours = 1e30;
  double theirs = 1e30;
  for (auto _ : state) {
    for (int round = 0; round < 8; ++round) {
      ours = std::min(ours, fastest_seconds(1, [&](int i) { problem.run(*backend, i); }));
      theirs = std::min(theirs, fastest_seconds(1, [&](int) { yardstick.run(); }));
    }
  }
  const double gflop = 2e-9 * static_cast<double>(state.range(0) * state.range(1) * state.range(2));
  state.counters["GFLOP/s"] = gflop / ours;
  state.counters["oneDNN"] = gflop / theirs;
  state.counters["of_oneDNN"] = theirs / ours;
}
BENCHMARK(linear_prefill)
    ->Args({512, 2688, 10304, 1})
    ->Args({512, 4096, 2688, 1})
    ->Args({512, 2688, 3712, 1})
    ->Args({64, 2688, 10304, 1})
    ->Args({512, 2688, 10304, 0})
    ->Args({512, 4096, 2688, 0})
    ->Args({512, 256, 1704, 1})
    ->Args({512, 256, 1704, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
