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

// What the reference says of a problem: the same for every candidate.
struct LoadedProblem {
  io::Json seeds;         // that its gate was asked under
  io::Json facts;         // the answer to load
  std::string init_blob;  // bytes of the constructor's tensors
};

// Imports its libraries once; every problem is then served by a fork of that process, so that no problem
// meets what another one left behind.
class ReferenceWorker {
 public:
  ReferenceWorker() = default;
  [[nodiscard]] static Result<ReferenceWorker> start(const PythonEnvironment& python);
  // False before start() and after a failure to answer.
  [[nodiscard]] bool running() const { return running_; }

  // Makes the problem of this file, under these overrides and seeds, the one that ask() and prepare() are
  // about. A problem that is loaded already stays as it is, under the seeds that it was loaded with.
  [[nodiscard]] Result<const LoadedProblem*> load(const std::string& path, const io::Json& overrides,
                                                  const io::Json& seeds);

  // The answer to a command. An answer that does not come (kUnavailable) or says error (kInvalidData) is no
  // statement about the candidate.
  [[nodiscard]] Result<io::Json> ask(const io::Json& message, std::string* blob);
  // The inputs of a trial and what is right for them.
  [[nodiscard]] Result<PreparedTrial> prepare(const Trial& trial);

 private:
  WorkerProcess process_;
  bool running_ = false;
  bool serves_problem_ = false;
  std::string loaded_key_;  // path and overrides of loaded_; empty: none
  LoadedProblem loaded_;
};

}  // namespace nemoforge::verify
