// The entry of verification: one candidate against one problem, or all traces of a run.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "io/json.h"
#include "store/run_store.h"
#include "verify/python_environment.h"
#include "verify/sandbox.h"
#include "verify/verdict.h"
#include "verify/workbench.h"

namespace nemoforge::verify {

enum class Device { kAuto, kInterpret, kCuda };

struct Options {
  Device device = Device::kAuto;
  bool sandbox = true;  // false: the user gave --no-sandbox
  int num_workers = 1;  // candidates at a time, for verify_run
  std::string version;  // of this program, for the record
};

// What was verified and how it came out; `record_json` is one line that holds everything that is stored.
struct Verification {
  Judgement judgement;
  std::string record_json;
  int64_t started_ms = 0;
  int64_t finished_ms = 0;
};

// The machine's side of verification, found once and used for many candidates. Safe for use by several
// threads.
class Verifier {
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
  [[nodiscard]] Result<Verification> verify(Workbench& workbench, const std::string& problem,
                                            const std::string& candidate, const io::Json& overrides,
                                            bool another_follows) const;

  // Verifies every trace of the run that has no verdict of this device, num_workers at a time, and stores
  // each verdict at once. on_verdict is called, never by two threads at once, after each; it returns false to
  // stop.
  struct Progress {
    int64_t num_done = 0;
    int64_t num_total = 0;
    const store::Trace* trace = nullptr;
    const Verification* verification = nullptr;
  };
  [[nodiscard]] Status verify_run(store::RunStore& store,
                                  const std::function<bool(const Progress&)>& on_verdict) const;

  [[nodiscard]] std::string device_name() const { return "interpret"; }
  [[nodiscard]] const PythonEnvironment& python() const { return python_; }
  [[nodiscard]] bool sandboxed() const { return sandbox_.isolates(); }

 private:
  Options options_;
  PythonEnvironment python_;
  Sandbox sandbox_;
};

}  // namespace nemoforge::verify
