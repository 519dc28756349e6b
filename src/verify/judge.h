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

namespace nemoforge::verify {

// What the judge hands back: the verdict and all figures and seeds behind it.
struct JudgeReport {
  Judgement judgement;
  io::Json record;
};

// problem_path and candidate_path are files; the candidate's file name must be of the judge's own choosing,
// so that a candidate cannot have planted it.
[[nodiscard]] Result<JudgeReport> judge_candidate(const PythonEnvironment& python, const Sandbox& sandbox,
                                                  const std::string& problem_path,
                                                  const std::string& candidate_path,
                                                  const io::Json& overrides);

}  // namespace nemoforge::verify
