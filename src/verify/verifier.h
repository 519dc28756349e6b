// The entry of verification: one candidate against one problem, or all traces of a run.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/json.h"
#include "verify/backend.h"
#include "verify/gpu_device.h"
#include "verify/python_environment.h"
#include "verify/sandbox.h"
#include "verify/verdict.h"
#include "verify/workbench.h"

namespace nemoforge::verify {

enum class Device { kAuto, kInterpret, kCuda };

struct Options {
  Device device = Device::kAuto;
  bool sandbox = true;  // false: the user gave --no-sandbox
  // Candidates at a time, for a run; 0: one a core, or three a GPU, of which one has the GPU to be timed
  // while the others compile and check.
  int num_workers = 1;
  std::string version;        // of this program, for the record
  bool time_compiled = true;  // on a GPU: torch.compile of the reference is timed as well
};

// The machine's side of verification, found once and used for many candidates. Safe for use by several
// threads.
class Verifier : public Backend {
 public:
  // kUnsupported where the device or the sandbox cannot be had, kNotFound where Python's packages are
  // missing.
  [[nodiscard]] static Result<Verifier> create(const Options& options);

  // Judges the text `candidate` against the text `problem`. overrides: a JSON object of values for the
  // problem's module constants. Whatever the candidate does is a verdict; an error means that nothing could
  // be verified.
  [[nodiscard]] Result<Verification> verify(const std::string& problem, const std::string& candidate,
                                            const io::Json& overrides) const;
  // The same for one of several candidates: what the workbench, which is this thread's own, holds is used and
  // left there for the next one.
  // gpu: the one that the workbench is for, if any.
  [[nodiscard]] Result<Verification> verify(Workbench& workbench, GpuDevice* gpu, const std::string& problem,
                                            const std::string& candidate, const io::Json& overrides,
                                            bool another_follows) const;

  // Keeps a workbench. The verifier must outlive it.
  [[nodiscard]] std::unique_ptr<BackendSession> open_session() const override;
  [[nodiscard]] std::string device_name() const override { return gpus_.empty() ? "interpret" : "cuda"; }
  [[nodiscard]] int num_sessions() const override { return options_.num_workers; }
  [[nodiscard]] const std::string& version() const { return options_.version; }
  [[nodiscard]] const PythonEnvironment& python() const { return python_; }
  // Of the machine, where candidates run on them.
  [[nodiscard]] const std::vector<std::shared_ptr<GpuDevice>>& gpus() const { return gpus_; }
  [[nodiscard]] bool sandboxed() const { return sandbox_.isolates(); }

 private:
  Options options_;
  PythonEnvironment python_;
  Sandbox sandbox_;
  std::vector<std::shared_ptr<GpuDevice>> gpus_;
  // Sessions opened so far: they take the GPUs in turn.
  std::shared_ptr<std::atomic<int>> num_opened_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace nemoforge::verify
