// What this machine can do at most, measured in the run that reports it: the scale of the benchmarks.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/thread_pool.h"

namespace nemoforge::ops {

// GB/s (1e9) at which all threads together read a buffer much larger than the caches; the best of several
// passes, measured anew at each call, since other work on the machine changes it.
[[nodiscard]] double measure_read_gb_per_s(ThreadPool& pool);

// Seconds of the fastest of `repetitions` calls.
template <typename Function>
[[nodiscard]] double fastest_seconds(int repetitions, const Function& function) {
  double best = 1e30;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    function(i);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (elapsed.count() < best) best = elapsed.count();
  }
  return best;
}

}  // namespace nemoforge::ops
