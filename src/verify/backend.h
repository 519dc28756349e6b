// Where candidates are judged: on this machine or on others. What a run needs of either.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "io/json.h"
#include "store/run_store.h"
#include "verify/verdict.h"

namespace nemoforge::verify {

// What was verified and how it came out; `record_json` is one line that holds everything that is stored.
struct Verification {
  Judgement judgement;
  std::string record_json;
  bool sandboxed = true;
  std::optional<double> speedup;  // over the reference as it is, of what is correct and was timed
  int64_t started_ms = 0;
  int64_t finished_ms = 0;
};

// One verifying thread's access to a backend, made and used by that thread.
class BackendSession {
 public:
  BackendSession() = default;
  BackendSession(const BackendSession&) = delete;
  BackendSession& operator=(const BackendSession&) = delete;
  virtual ~BackendSession() = default;

  // Judges the text `candidate` against the text `problem`. overrides: a JSON object of values for the
  // problem's module constants. Whatever the candidate does is a verdict; an error means that nothing could
  // be verified, this one or any other. another_follows: what the next one needs is made ready meanwhile.
  [[nodiscard]] virtual Result<Verification> verify(const std::string& problem, const std::string& candidate,
                                                    const io::Json& overrides, bool another_follows) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  // What verdicts are given on, "interpret" or "cuda", as the store names it.
  [[nodiscard]] virtual std::string device_name() const = 0;
  // Candidates at a time, each in a session of its own.
  [[nodiscard]] virtual int num_sessions() const = 0;
  [[nodiscard]] virtual std::unique_ptr<BackendSession> open_session() const = 0;

  // Verifies every trace of the run that has no verdict of this device, num_sessions() at a time, and stores
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

 protected:
  Backend() = default;
  Backend(const Backend&) = default;
  Backend& operator=(const Backend&) = default;
};

// The record of a verification that came to nothing for a reason outside of the candidate; `judgement` says
// which.
[[nodiscard]] Verification not_verified(const std::string& stage, const std::string& detail,
                                        const std::string& device, int64_t started_ms);

// Milliseconds since 1970.
[[nodiscard]] int64_t wall_clock_ms();

}  // namespace nemoforge::verify
