// The closed world in which a candidate runs: bubblewrap with no network, a read-only system, its own /tmp,
// processes, users and host name, and nothing of the run's folders.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "verify/python_environment.h"
#include "verify/worker_process.h"

namespace nemoforge::verify {

// What a sandboxed program may read besides the system and Python.
struct ReadableFile {
  std::string host_path;
  std::string path;  // inside
};

// What a sandboxed program may use besides: the GPU of this index among the machine's, or none.
using SandboxGpu = std::optional<int>;

class Sandbox {
 public:
  // Looks for bwrap and tries it. kUnsupported, with the reason and the mend, where this machine cannot.
  [[nodiscard]] static Result<Sandbox> find();
  // Whether the worker's system-call filter, the other half of the isolation, can be put in force here.
  // kUnsupported, with the reason, where it cannot.
  [[nodiscard]] Status check_filter(const PythonEnvironment& python) const;
  // No isolation at all: for machines that have none, when the user asks for it.
  [[nodiscard]] static Sandbox none() { return {}; }

  [[nodiscard]] bool isolates() const { return !bwrap_.empty(); }

  // `argv` (of which argv[0] is a path inside) as it is to be started in the sandbox. Without isolation the
  // files' inside paths must equal their host paths. With a GPU the program sees the nodes of that one and of
  // the driver, and Triton compiles; without one Triton interprets and no GPU is seen.
  [[nodiscard]] WorkerCommand wrap(const std::vector<std::string>& argv, const PythonEnvironment& python,
                                   const std::vector<ReadableFile>& files, SandboxGpu gpu = {}) const;

 private:
  std::string bwrap_;
};

}  // namespace nemoforge::verify
