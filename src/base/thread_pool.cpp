#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include <sched.h>

#include "base/check.h"

namespace nemoforge {
namespace {

// Spinning pays for itself when the next loop comes within about the time a futex wake-up takes.
constexpr int kSpinIterations = 4000;

void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::mutex submit_mutex;  // one loop at a time

  std::mutex sleep_mutex;
  std::condition_variable wake;
  std::atomic<uint64_t> generation{0};  // raised once a loop; workers run each generation once
  std::atomic<bool> stopping{false};

  // The current loop; written while no worker is inside and the loop is closed, read by those who joined it.
  const std::function<void(int64_t, int)>* task = nullptr;
  int64_t num_tasks = 0;
  std::atomic<int64_t> next_task{0};

  // The number of workers inside the loop, and kOpen while they may join. A worker that comes late (the
  // system runs something else on its core) finds the loop closed and is not waited for: without this, every
  // short loop on a busy machine lasts as long as the scheduler's time slice.
  static constexpr uint32_t kOpen = 1u << 31;
  std::atomic<uint32_t> participants{0};

  // The acquire pairs with the release that opened the loop: the worker sees its task.
  bool join() {
    uint32_t now = participants.load(std::memory_order_relaxed);
    while ((now & kOpen) != 0) {
      if (participants.compare_exchange_weak(now, now + 1, std::memory_order_acquire)) return true;
    }
    return false;
  }

  // The release pairs with the acquire in close(): the caller sees what the worker wrote.
  void leave() { participants.fetch_sub(1, std::memory_order_release); }

  // Lets nobody join any more and waits until those inside have left.
  void close() {
    uint32_t now = participants.fetch_and(~kOpen, std::memory_order_acquire) & ~kOpen;
    for (int spin = 0; now != 0; ++spin) {
      if (spin < kSpinIterations) {
        cpu_relax();
      } else {
        std::this_thread::yield();
      }
      now = participants.load(std::memory_order_acquire);
    }
  }

  void run_tasks(int thread_idx) {
    for (;;) {
      const int64_t task_idx = next_task.fetch_add(1, std::memory_order_relaxed);
      if (task_idx >= num_tasks) return;
      (*task)(task_idx, thread_idx);
    }
  }

  void worker_loop(int thread_idx) {
    uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpinIterations && generation.load(std::memory_order_acquire) == seen;
           ++spin) {
        cpu_relax();
      }
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(sleep_mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
      }
      seen = generation.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) return;
      if (!join()) continue;
      run_tasks(thread_idx);
      leave();
    }
  }

  void publish() {
    {
      // The mutex closes the window between a worker's test of `generation` and its sleep.
      std::lock_guard lock(sleep_mutex);
      generation.fetch_add(1, std::memory_order_release);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  NF_CHECK(num_threads >= 1) << num_threads;
  for (int thread_idx = 1; thread_idx < num_threads; ++thread_idx) {
    state_->workers.emplace_back([state = state_.get(), thread_idx] { state->worker_loop(thread_idx); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_release);
  state_->publish();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::num_threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::parallel_for(int64_t num_tasks, const std::function<void(int64_t, int)>& task) {
  if (num_tasks <= 0) return;
  std::lock_guard submit(state_->submit_mutex);
  if (num_tasks == 1 || state_->workers.empty()) {
    for (int64_t task_idx = 0; task_idx < num_tasks; ++task_idx) task(task_idx, 0);
    return;
  }
  state_->task = &task;
  state_->num_tasks = num_tasks;
  state_->next_task.store(0, std::memory_order_relaxed);
  state_->participants.store(State::kOpen, std::memory_order_release);
  state_->publish();
  state_->run_tasks(0);
  state_->close();
}

ThreadPool& ThreadPool::global() {
  static ThreadPool pool([] {
    if (const char* value = std::getenv("NEMOFORGE_THREADS")) {
      return std::clamp(std::atoi(value), 1, 1024);
    }
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }());
  return pool;
}

}  // namespace nemoforge
