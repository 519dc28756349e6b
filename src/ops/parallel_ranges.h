// Loops of the CPU kernels over the thread pool.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "base/integers.h"
#include "base/thread_pool.h"

namespace nemoforge::ops {

// Memory traffic (in and out) below which a fork costs more than it saves: waking the pool takes some
// microseconds, in which one core moves about this much.
constexpr int64_t kMinBytesPerTask = 64 << 10;

// Items that make a task worth a fork, for items which each move bytes_per_item.
[[nodiscard]] inline int64_t items_per_task(int64_t bytes_per_item) {
  return std::max<int64_t>(1, kMinBytesPerTask / std::max<int64_t>(1, bytes_per_item));
}

// Calls run(begin, end, thread_idx) for contiguous ranges that make up [0, num_items), in parallel where
// there is more than `min_items` to do, else once on the caller's thread. `run` must not throw, and an item's
// result must not depend on the range it falls into.
template <typename Run>
void parallel_ranges(ThreadPool& pool, int64_t num_items, int64_t min_items, const Run& run) {
  if (num_items <= 0) return;
  const int64_t num_threads = pool.num_threads();
  if (num_threads == 1 || num_items <= min_items) {
    run(int64_t{0}, num_items, 0);
    return;
  }
  // Several ranges a thread, so that a thread which was delayed, or has the longer items, does not hold up
  // the others.
  const int64_t num_tasks = std::min(ceil_div(num_items, min_items), 16 * num_threads);
  const auto task = [&](int64_t task_idx, int thread_idx) {
    run(num_items * task_idx / num_tasks, num_items * (task_idx + 1) / num_tasks, thread_idx);
  };
  pool.parallel_for(num_tasks, std::ref(task));  // a reference fits std::function without allocation
}

}  // namespace nemoforge::ops
