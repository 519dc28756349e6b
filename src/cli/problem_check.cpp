#include "cli/problem_check.h"

#include <utility>

#include "base/log.h"
#include "verify/problem_survey.h"

namespace nemoforge::cli {

ProblemCheck::ProblemCheck(const std::vector<trace::Problem>& problems) {
  std::vector<std::string> sources;
  std::vector<std::string> ids;
  for (const trace::Problem& problem : problems) {
    sources.push_back(problem.source);
    ids.push_back(problem.id);
  }
  thread_ =
      std::thread([this, sources = std::move(sources), ids = std::move(ids)] { measure(sources, ids); });
}

ProblemCheck::~ProblemCheck() {
  stop_ = true;
  thread_.join();
}

void ProblemCheck::measure(const std::vector<std::string>& sources, const std::vector<std::string>& ids) {
  const auto sandbox = verify::Sandbox::find();
  const auto python = verify::find_python_environment();
  if (!sandbox || !python) return;
  verify::SurveyOptions options;
  options.limits = verify::SizeLimits::of_this_machine(static_cast<int>(std::thread::hardware_concurrency()));
  size_t num_measured = 0;
  size_t num_refused = 0;
  std::string first;
  const auto count = [&](size_t index, const verify::SurveyedProblem& surveyed) {
    ++num_measured;
    if (surveyed.size.size_class != verify::SizeClass::kOk && ++num_refused == 1) {
      first = ids[index] + ": " + surveyed.size.reason;
    }
    return !stop_;
  };
  const Status status =
      stop_ ? Status() : verify::survey_problems(sources, *python, *sandbox, options, count);
  if (!status)
    spdlog::warn("which problems can be verified here is not known: {}", status.error().to_string());
  if (num_refused == 0) return;
  spdlog::warn(
      "{} of {} problems{} cannot be verified on this machine without a GPU, the first {} "
      "(`nemoforge problems` lists them)",
      num_refused, num_measured, num_measured < sources.size() ? " measured so far" : "", first);
}

}  // namespace nemoforge::cli
