// The advisory lock by which one process of a kind writes to a run.
#pragma once

#include <string>

#include "base/result.h"

namespace nemoforge::store {

// Holds an exclusive lock on a file for as long as it lives; the operating system frees it when the process
// dies in whatever way. Move-only.
class RunLock {
 public:
  RunLock() = default;
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&& other) noexcept;
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();

  // kUnavailable, with the holder's process id, where another process holds it.
  [[nodiscard]] static Result<RunLock> acquire(const std::string& path);

 private:
  int fd_ = -1;
};

}  // namespace nemoforge::store
