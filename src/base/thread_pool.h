// Fork-join parallelism for the CPU kernels.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace nemoforge {

// A fixed set of threads that run one parallel loop at a time. The caller takes part. Between loops the
// workers spin for some microseconds (a decode step is hundreds of short loops) and then sleep.
class ThreadPool {
 public:
  // num_threads counts the caller; at least 1.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int num_threads() const;

  // Calls task(task_idx, thread_idx) once for every task_idx in [0, num_tasks), spread over the threads;
  // returns when all are done. thread_idx is in [0, num_threads()) and two tasks that run at the same time
  // never share it. Tasks must not throw and must not call parallel_for on the same pool. Calls from several
  // threads are serialised.
  void parallel_for(int64_t num_tasks, const std::function<void(int64_t task_idx, int thread_idx)>& task);

  // The pool of the process: NEMOFORGE_THREADS threads, or one for every core that the process may use.
  static ThreadPool& global();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nemoforge
