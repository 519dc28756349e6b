// What one verifying thread keeps from candidate to candidate, so that nothing is paid for twice: a reference
// process that has imported its libraries and may have the problem loaded, and a sandboxed process that has
// imported its own and waits for a candidate. Neither has ever run a candidate's code, and each candidate's
// process serves that candidate alone.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "base/temporary_folder.h"
#include "verify/arena.h"
#include "verify/problem_size.h"
#include "verify/python_environment.h"
#include "verify/reference_worker.h"
#include "verify/sandbox.h"
#include "verify/worker_process.h"

namespace nemoforge::verify {

// A process in a sandbox of its own, ready for one candidate.
struct CandidateProcess {
  std::string path;  // of the candidate's file, on both sides of the sandbox
  Arena arena;
  WorkerProcess process;
};

// Used by one thread, the one that made it: its processes end with that thread.
class Workbench {
 public:
  // The objects must outlive the workbench. limits: beyond which no problem is tried. gpu: on which both
  // processes work; none: the CPU.
  Workbench(const PythonEnvironment& python, const Sandbox& sandbox,
            const SizeLimits& limits = SizeLimits::of_this_machine(1), SandboxGpu gpu = {})
      : python_(&python), sandbox_(&sandbox), limits_(limits), gpu_(gpu) {}
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  [[nodiscard]] const SizeLimits& limits() const { return limits_; }

  // Both processes begin with their imports, if they have not.
  [[nodiscard]] Status warm_up();

  // The reference; one that died before is replaced.
  [[nodiscard]] Result<ReferenceWorker*> reference();
  // The waiting process, which now finds the text at its path. Another one has to be warmed up for the next.
  [[nodiscard]] Result<CandidateProcess> take_candidate_process(const std::string& text);
  // A file of the problem's text that stays as long as the workbench.
  [[nodiscard]] Result<std::string> problem_file(const std::string& text);

 private:
  [[nodiscard]] Status make_folder();
  [[nodiscard]] Status start_candidate_process();

  const PythonEnvironment* python_;
  const Sandbox* sandbox_;
  SizeLimits limits_;
  SandboxGpu gpu_;
  TemporaryFolder folder_;
  ReferenceWorker reference_;
  std::optional<CandidateProcess> waiting_;
  std::string problem_text_;
  std::string problem_path_;
};

}  // namespace nemoforge::verify
