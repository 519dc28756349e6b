// Tells, while a run begins, how many of its problems this machine could not verify candidates of.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "trace/problem.h"

namespace nemoforge::cli {

// Measures the problems in a thread of its own, so that sampling need not wait, and warns in the log when it
// is through. Sampling alone needs neither Python nor a sandbox: where there is none, nothing is said here.
class ProblemCheck {
 public:
  explicit ProblemCheck(const std::vector<trace::Problem>& problems);
  // Ends after the problem in hand and warns by what was measured so far.
  ~ProblemCheck();
  ProblemCheck(const ProblemCheck&) = delete;
  ProblemCheck& operator=(const ProblemCheck&) = delete;

 private:
  void measure(const std::vector<std::string>& sources, const std::vector<std::string>& ids);

  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace nemoforge::cli
