// The building block of the scan and of attention beside the arithmetic peak of one core.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/small_matmul_bench.cpp"
#include <algorithm>
#include <vector>

#include <benchmark/benchmark.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/fma_peak.h"
#include "ops/machine_peak.h"
#include "ops/small_matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Returns the floating point operations done. Eight chains of fused multiply-adds hide their latency.
double multiply_add(int64_t num_iterations) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.999f);
  // Different starts, else the compiler would see one chain in the eight.
  auto a0 = hn::Set(d, 0.1f), a1 = hn::Set(d, 0.2f), a2 = hn::Set(d, 0.3f), a3 = hn::Set(d, 0.4f);
  auto a4 = hn::Set(d, 0.5f), a5 = hn::Set(d, 0.6f), a6 = hn::Set(d, 0.7f), a7 = hn::Set(d, 0.8f);
  for (int64_t i = 0; i < num_iterations; ++i) {
    a0 = hn::MulAdd(a0, factor, factor);
    a1 = hn::MulAdd(a1, factor, factor);
    a2 = hn::MulAdd(a2, factor, factor);
    a3 = hn::MulAdd(a3, factor, factor);
    a4 = hn::MulAdd(a4, factor, factor);
    a5 = hn::MulAdd(a5, factor, factor);
    a6 = hn::MulAdd(a6, factor, factor);
    a7 = hn::MulAdd(a7, factor, factor);
  }
  const auto sum =
      hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), hn::Add(hn::Add(a4, a5), hn::Add(a6, a7)));
  benchmark::DoNotOptimize(hn::GetLane(hn::SumOfLanes(d, sum)));
  return static_cast<double>(num_iterations) * 16 * static_cast<double>(hn::Lanes(d));
}

void bench_matmul_add(const float* a, int64_t a_row_stride, int64_t a_column_stride, const float* b, float* c,
                      int64_t num_rows, int64_t num_columns, int64_t k_size) {
  matmul_add({a, a_row_stride, a_column_stride}, b, num_columns, c, num_columns, num_rows, num_columns,
             k_size);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(multiply_add);
HWY_EXPORT(bench_matmul_add);

double measure_fma_gflop_per_s(ThreadPool& pool) {
  constexpr int64_t kIterations = 1 << 18;
  std::vector<double> flops(static_cast<size_t>(pool.num_threads()));
  const double seconds = fastest_seconds(6, [&](int) {
    pool.parallel_for(pool.num_threads(), [&](int64_t task_idx, int) {
      flops[static_cast<size_t>(task_idx)] = HWY_DYNAMIC_DISPATCH(multiply_add)(kIterations);
    });
  });
  return flops[0] * pool.num_threads() / seconds / 1e9;
}

namespace {

// Arguments: rows, columns, k, whether the left operand is transposed.
void small_matmul(benchmark::State& state) {
  const int64_t num_rows = state.range(0);
  const int64_t num_columns = state.range(1);
  const int64_t k_size = state.range(2);
  const bool transposed = state.range(3) != 0;
  std::vector<float> a(static_cast<size_t>(num_rows * k_size), 0.5f);
  std::vector<float> b(static_cast<size_t>(k_size * num_columns), 0.5f);
  std::vector<float> c(static_cast<size_t>(num_rows * num_columns));
  ThreadPool one_core(1);
  constexpr int kRepetitions = 50;
  double seconds = 1e30;
  double peak = 0;
  for (auto _ : state) {
    for (int round = 0; round < 5; ++round) {
      peak = std::max(peak, measure_fma_gflop_per_s(one_core));
      seconds = std::min(seconds, fastest_seconds(5, [&](int) {
                           for (int i = 0; i < kRepetitions; ++i) {
                             HWY_DYNAMIC_DISPATCH(bench_matmul_add)
                             (a.data(), transposed ? 1 : k_size, transposed ? num_rows : 1, b.data(),
                              c.data(), num_rows, num_columns, k_size);
                           }
                         }));
    }
  }
  const double gflop = 2e-9 * kRepetitions * static_cast<double>(num_rows * num_columns * k_size);
  state.counters["GFLOP/s"] = gflop / seconds;
  state.counters["of_fma"] = gflop / seconds / peak;
}
BENCHMARK(small_matmul)
    ->Args({64, 64, 128, 0})
    ->Args({64, 128, 64, 1})
    ->Args({64, 16, 128, 0})
    ->Args({128, 16, 64, 1})
    ->Args({32, 64, 64, 0})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops
#endif
