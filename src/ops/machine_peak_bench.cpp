#include "ops/machine_peak.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/machine_peak_bench.cpp"
#include <cstring>

#include <benchmark/benchmark.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "tensor/buffer.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Exclusive or of num_bytes, a multiple of 1 KB, so that no load can be left out. Prefetches as the kernels
// do: on a busy machine that wins bandwidth, and a yardstick without it would flatter them.
uint64_t read_all(const uint64_t* from, int64_t num_bytes) {
  const hn::ScalableTag<uint64_t> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d);
  auto b = a;
  auto c = a;
  auto e = a;
  const int64_t ahead = (16 << 10) / 8;
  for (int64_t i = 0; i < num_bytes / 8; i += 4 * lanes) {
    for (int64_t line = 0; line < 4 * lanes; line += 8) {
      if (i + line + ahead < num_bytes / 8) __builtin_prefetch(from + i + line + ahead, 0, 2);
    }
    a = hn::Xor(a, hn::Load(d, from + i));
    b = hn::Xor(b, hn::Load(d, from + i + lanes));
    c = hn::Xor(c, hn::Load(d, from + i + 2 * lanes));
    e = hn::Xor(e, hn::Load(d, from + i + 3 * lanes));
  }
  return hn::GetLane(hn::Xor(hn::Xor(a, b), hn::Xor(c, e)));
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(read_all);

double measure_read_gb_per_s(ThreadPool& pool) {
  constexpr int64_t kBytes = int64_t{512} << 20;
  constexpr int64_t kTaskBytes = 1 << 20;
  static const Buffer buffer = [] {
    Buffer memory = allocate_host(kBytes);
    std::memset(memory.data(), 1, kBytes);
    return memory;
  }();
  const auto pass = [&](int) {
    pool.parallel_for(kBytes / kTaskBytes, [&](int64_t task_idx, int) {
      const auto* from = static_cast<const char*>(buffer.data()) + task_idx * kTaskBytes;
      benchmark::DoNotOptimize(
          HWY_DYNAMIC_DISPATCH(read_all)(reinterpret_cast<const uint64_t*>(from), kTaskBytes));
    });
  };
  return static_cast<double>(kBytes) / fastest_seconds(6, pass) / 1e9;
}

namespace {

void machine_read(benchmark::State& state) {
  double gb_per_s = 0;
  for (auto _ : state) gb_per_s = measure_read_gb_per_s(ThreadPool::global());
  state.counters["GB/s"] = gb_per_s;
}
BENCHMARK(machine_read)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace nemoforge::ops

BENCHMARK_MAIN();
#endif
