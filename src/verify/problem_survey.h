// Measures a set of problems, several at a time, in confined processes that serve many each.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "verify/problem_size.h"
#include "verify/python_environment.h"
#include "verify/sandbox.h"

namespace nemoforge::verify {

struct SurveyOptions {
  SizeLimits limits;
  int num_workers = 1;
};

struct SurveyedProblem {
  ProblemMeasurement measurement;
  SizeJudgement size;
  int64_t wall_ms = 0;  // of measuring it
};

// Measures the problems of these texts and calls on_problem(idx, surveyed) after each, never by two threads
// at once and in no order; it returns false to stop. Whatever a problem does is told of that problem; an
// error means that none can be measured.
[[nodiscard]] Status survey_problems(
    const std::vector<std::string>& sources, const PythonEnvironment& python, const Sandbox& sandbox,
    const SurveyOptions& options,
    const std::function<bool(size_t problem_idx, const SurveyedProblem& surveyed)>& on_problem);

}  // namespace nemoforge::verify
