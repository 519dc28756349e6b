// The trusted process that knows the problem.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "io/json.h"
#include "verify/comparator.h"
#include "verify/problem_size.h"
#include "verify/python_environment.h"
#include "verify/sandbox.h"
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

// How the reference's process is confined; by default it is not, since a problem is trusted.
struct ReferenceConfinement {
  const Sandbox* sandbox = nullptr;     // in which it sees the system, Python and readable_folder
  std::string readable_folder = {};     // with the files of the problems
  int64_t max_address_space_bytes = 0;  // 0: no limit
  bool measures_many = false;           // imports at its start what most measurements need
  SandboxGpu gpu = {};                  // on which it runs problems; none: the CPU
  std::string cache_folder = {};        // for what it compiles on a GPU
};

// Imports its libraries once; every problem is then served by a fork of that process, so that no problem
// meets what another one left behind.
class ReferenceWorker {
 public:
  ReferenceWorker() = default;
  [[nodiscard]] static Result<ReferenceWorker> start(const PythonEnvironment& python,
                                                     const ReferenceConfinement& confinement = {});
  // False before start() and after a failure to answer.
  [[nodiscard]] bool running() const { return running_; }

  // Makes the problem of this file, under these overrides and seeds, the one that ask() and prepare() are
  // about. A problem that is loaded already stays as it is, under the seeds that it was loaded with.
  [[nodiscard]] Result<const LoadedProblem*> load(const std::string& path, const io::Json& overrides,
                                                  const io::Json& seeds);

  // What the problem of this file needs under these overrides, without computing it where that can be. Asked
  // of a process of its own, so that load() finds the problem as it is. A problem that was measured last is
  // not measured again. The answer stays until the next call.
  [[nodiscard]] const ProblemMeasurement& measure(const std::string& path, const io::Json& overrides);

  // The answer to a command. An answer that does not come (kUnavailable) or says error (kInvalidData) is no
  // statement about the candidate.
  [[nodiscard]] Result<io::Json> ask(const io::Json& message, std::string* blob);
  // The same without waiting for the answer's blob, under a limit of its own.
  [[nodiscard]] Result<io::Json> ask_within(const io::Json& message, Clock::duration timeout);
  // Ends the problem's process, and with it everything that it holds on a GPU.
  [[nodiscard]] Status unload();
  // The inputs of a trial and what is right for them.
  [[nodiscard]] Result<PreparedTrial> prepare(const Trial& trial);

 private:
  [[nodiscard]] Result<io::Json> ask(const io::Json& message, std::string* blob, Clock::duration timeout);

  WorkerProcess process_;
  bool running_ = false;
  bool measures_many_ = false;
  bool on_gpu_ = false;
  std::string measured_key_;  // path and overrides of measurement_; empty: none
  ProblemMeasurement measurement_;
  bool serves_problem_ = false;
  std::string loaded_key_;  // path and overrides of loaded_; empty: none
  LoadedProblem loaded_;
};

}  // namespace nemoforge::verify
