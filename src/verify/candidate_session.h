// The conversation with the sandboxed process in which a candidate runs. Everything that it brings is noted
// in the evidence.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "io/json.h"
#include "verify/evidence.h"
#include "verify/python_environment.h"
#include "verify/sandbox.h"
#include "verify/worker_process.h"

namespace nemoforge::verify {

class CandidateSession {
 public:
  // The objects must outlive the session.
  CandidateSession(const PythonEnvironment& python, const Sandbox& sandbox, Evidence& evidence)
      : python_(&python), sandbox_(&sandbox), evidence_(&evidence) {}

  // Takes the process over. The candidate's time runs from greet() on.
  void begin(std::string candidate_path, WorkerProcess process);

  // The worker gets `memory`, which says what it shares with the judge or the reference, and closes itself
  // in; no line of the candidate has run when it answers. The record gets its `versions` and the `isolation`
  // that is in force. An error, which says nothing about the candidate, where the process fails or is in a
  // sandbox without its system-call filter.
  [[nodiscard]] Status greet(const io::Json& memory, io::Json& record);

  // These return false where the candidate's process failed or reports an exception: both are in the evidence
  // then. No exchange outlasts the candidate's total time.
  bool load();
  bool ask(const io::Json& message, std::string_view blob, Clock::duration timeout, const char* stage,
           io::Json* reply, std::string* reply_blob = nullptr);

  // The last looks at the process, the kernels compiled ahead of time, and its end.
  void finish();
  // The last look, and the end, where the kernels ran compiled.
  void look_around();
  void end();

  [[nodiscard]] bool has_time_for_trials() const;

 private:
  void note_worker_failure(ExchangeFailure failure, const char* stage);
  void take_findings(const io::Json& reply);
  void compile_kernels();
  void assemble(const std::string& ptx, CompiledKernel& kernel);
  [[nodiscard]] Clock::duration time_left(Clock::duration at_most) const;

  const PythonEnvironment* python_;
  const Sandbox* sandbox_;
  std::string path_;
  Evidence* evidence_;
  WorkerProcess process_;
  Clock::time_point started_ = Clock::now();
};

}  // namespace nemoforge::verify
