// Runs the trials of one candidate: the reference in one process, the candidate in another, the seeds, the
// clock and the comparison here.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "io/json.h"
#include "verify/python_environment.h"
#include "verify/sandbox.h"
#include "verify/verdict.h"
#include "verify/workbench.h"

namespace nemoforge::verify {

// What the judge hands back: the verdict and all figures and seeds behind it.
struct JudgeReport {
  Judgement judgement;
  io::Json record;
};

// Judges the text `candidate` against the text `problem`. An error says that nothing was found out, for a
// reason of this machine's. `another_follows`: the process for the next candidate is warmed up meanwhile.
[[nodiscard]] Result<JudgeReport> judge_candidate(const PythonEnvironment& python, const Sandbox& sandbox,
                                                  Workbench& workbench, const std::string& problem,
                                                  const std::string& candidate, const io::Json& overrides,
                                                  bool another_follows);

}  // namespace nemoforge::verify
