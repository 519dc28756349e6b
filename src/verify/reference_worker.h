// The trusted process that knows the problem.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "io/json.h"
#include "verify/comparator.h"
#include "verify/python_environment.h"
#include "verify/trial_plan.h"
#include "verify/worker_process.h"

namespace nemoforge::verify {

// A trial as the reference made it.
struct PreparedTrial {
  io::Json inputs;                      // tree of arguments
  std::string input_bytes;              // of its tensors, one after the other
  std::vector<int64_t> sizes;           // of each in bytes
  std::vector<ExpectedOutput> outputs;  // with their tolerances
  std::string dropped;                  // why it says nothing, or empty
  double eager_rms = 0;                 // relative error of the reference in its own precision
  double precision_floor = 0;           // error of reduced precision; 0: not asked, or not to be told apart
};

class ReferenceWorker {
 public:
  ReferenceWorker() = default;
  [[nodiscard]] static Result<ReferenceWorker> start(const PythonEnvironment& python);

  // The answer to a command. An answer that does not come (kUnavailable) or says error (kInvalidData) is no
  // statement about the candidate.
  [[nodiscard]] Result<io::Json> ask(const io::Json& message, std::string* blob);
  // The inputs of a trial and what is right for them.
  [[nodiscard]] Result<PreparedTrial> prepare(const Trial& trial);

 private:
  WorkerProcess process_;
};

}  // namespace nemoforge::verify
