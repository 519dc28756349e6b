#include "cli/problems.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "base/progress.h"
#include "cli/standard_input.h"
#include "io/json.h"
#include "trace/problem.h"
#include "verify/problem_survey.h"

namespace nemoforge::cli {
namespace {

struct ProblemsCommand {
  std::string problems;
  std::string levels;
  std::string ids;
  std::string filter;
  double memory_gib = 0;  // 0: this machine's
  verify::SurveyOptions survey;
  bool sandbox = true;
  bool json = false;
};

using Surveyed = std::vector<verify::SurveyedProblem>;

Result<std::vector<trace::Problem>> problems_of(const ProblemsCommand& command) {
  trace::ProblemFilter filter;
  const auto ranges = [](const char* flag, const std::string& text) {
    auto parsed = trace::parse_number_ranges(text);
    if (!parsed) throw CLI::ValidationError(flag, parsed.error().message);
    return *std::move(parsed);
  };
  if (!command.levels.empty()) filter.levels = ranges("--levels", command.levels);
  if (!command.ids.empty()) filter.numbers = ranges("--ids", command.ids);
  filter.id_pattern = command.filter;
  return trace::load_problems(command.problems, filter);
}

// "3", "3.2k", "41.5M", "2.10G".
std::string short_number(double value) {
  const char* suffix = "";
  for (const char* next : {"k", "M", "G", "T"}) {
    if (value < 1000) break;
    value /= 1000;
    suffix = next;
  }
  return value < 10 && *suffix != '\0' ? fmt::format("{:.2f}{}", value, suffix)
                                       : fmt::format("{:.{}f}{}", value, *suffix == '\0' ? 0 : 1, suffix);
}

std::string table_row(const trace::Problem& problem, const verify::SurveyedProblem& surveyed) {
  const auto& measurement = surveyed.measurement;
  std::string row = fmt::format("{:<44.44} {:<21}", problem.id, verify::name_of(surveyed.size.size_class));
  // Of the file's own sizes where they are known.
  if (const auto& needs = measurement.full ? measurement.full : measurement.judged) {
    std::string dtypes;
    for (const std::string& dtype : needs->dtypes) dtypes += (dtypes.empty() ? "" : ",") + dtype;
    const auto count = [](int64_t number) { return short_number(static_cast<double>(number)); };
    row += fmt::format("{:>8} {:>8} {:>8} {:>8}  {}", count(needs->num_parameters), count(needs->input_bytes),
                       count(needs->output_bytes), count(needs->flops), dtypes);
  }
  if (measurement.overrides_json != "{}") row += "  judged at " + measurement.overrides_json;
  if (!surveyed.size.reason.empty()) row += "  " + surveyed.size.reason;
  return row + '\n';
}

std::string json_row(const trace::Problem& problem, const verify::SurveyedProblem& surveyed) {
  const auto& measurement = surveyed.measurement;
  const auto& size = surveyed.size;
  const auto needs = [](const std::optional<verify::ProblemNeeds>& measured) {
    return measured ? to_json(*measured) : io::Json();
  };
  const auto overrides = io::parse_json(measurement.overrides_json);
  return io::dump_json({{"problem", problem.id},
                        {"path", problem.path},
                        {"class", verify::name_of(size.size_class)},
                        {"reason", size.reason},
                        {"full", needs(measurement.full)},
                        {"judged", needs(measurement.judged)},
                        {"overrides", overrides ? *overrides : io::Json::object()},
                        {"memory_bytes", size.memory_bytes},
                        {"candidate_s", size.candidate_s},
                        {"reference_s", size.reference_s},
                        {"wall_ms", surveyed.wall_ms}}) +
         '\n';
}

Status print_survey(const ProblemsCommand& command, const std::vector<trace::Problem>& problems,
                    const Surveyed& surveyed, double wall_s) {
  std::string text;
  std::map<std::string, int64_t> counts;
  if (!command.json) {
    text += fmt::format("{:<44} {:<21}{:>8} {:>8} {:>8} {:>8}  {}\n", "problem", "class", "params", "in B",
                        "out B", "FLOP", "dtypes");
  }
  for (size_t i = 0; i < problems.size(); ++i) {
    ++counts[std::string(verify::name_of(surveyed[i].size.size_class))];
    text += command.json ? json_row(problems[i], surveyed[i]) : table_row(problems[i], surveyed[i]);
  }
  if (command.json) {
    text +=
        io::dump_json({{"num_problems", problems.size()}, {"classes", counts}, {"wall_s", wall_s}}) + '\n';
  } else {
    text += fmt::format("\n{} problems in {}:", problems.size(), format_duration(wall_s));
    for (const auto& [name, count] : counts) text += fmt::format(" {} {},", count, name);
    text.back() = '\n';
  }
  return write_standard_output(text);
}

Status run_problems(ProblemsCommand& command) {
  install_interrupt_handler();
  NF_TRY(const std::vector<trace::Problem> problems, problems_of(command));
  verify::Sandbox sandbox = verify::Sandbox::none();
  if (command.sandbox) {
    NF_TRY(sandbox, verify::Sandbox::find());
  }
  NF_TRY(const verify::PythonEnvironment python, verify::find_python_environment());
  if (command.memory_gib > 0) {
    command.survey.limits.memory_bytes = std::llround(command.memory_gib * (int64_t{1} << 30));
  }
  std::vector<std::string> sources;
  for (const trace::Problem& problem : problems) sources.push_back(problem.source);
  Surveyed surveyed(problems.size());
  const auto started = std::chrono::steady_clock::now();
  {
    Progress progress("measure", "", static_cast<int64_t>(problems.size()));
    NF_RETURN_IF_ERROR(verify::survey_problems(sources, python, sandbox, command.survey,
                                               [&](size_t index, const verify::SurveyedProblem& result) {
                                                 surveyed[index] = result;
                                                 progress.finish_item();
                                                 return !interrupted();
                                               }));
  }
  if (interrupted()) return error(ErrorCode::kCancelled, "interrupted");
  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  NF_RETURN_IF_ERROR(print_survey(command, problems, surveyed, wall_s));
  const auto broken = std::count_if(surveyed.begin(), surveyed.end(), [](const auto& one) {
    return one.size.size_class == verify::SizeClass::kDoesNotBuild;
  });
  if (broken == 0) return {};
  return error(ErrorCode::kInvalidData,
               fmt::format("{} of {} problems do not build", broken, problems.size()));
}

}  // namespace

void add_problems_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<ProblemsCommand>();
  const int num_cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  command->survey.num_workers = num_cores;
  // As `verify` has with its default number of workers.
  command->survey.limits = verify::SizeLimits::of_this_machine(num_cores);
  CLI::App* sub = add_command(app, outcome, "problems",
                              "List what problems need and which of them this machine can verify",
                              [command] { return run_problems(*command); });
  sub->add_option("--problems", command->problems,
                  "Problem file, folder of problems, or KernelBench checkout")
      ->required();
  sub->add_option("--levels", command->levels, "Levels to keep, such as 1,2");
  sub->add_option("--ids", command->ids, "Problem numbers to keep, such as 1-20,33");
  sub->add_option("--filter", command->filter,
                  "Regular expression that the ids of the problems to keep match");
  sub->add_option("--memory-gib", command->memory_gib,
                  "Memory that verifying one candidate may take (default: this machine's, shared by a "
                  "worker a core)")
      ->check(CLI::Range(0.1, 65536.0));
  sub->add_option("--timeout-s", command->survey.limits.timeout_s,
                  "Seconds that a candidate's trials, and the reference before them, may take")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--workers", command->survey.num_workers, "Problems measured at a time")
      ->check(CLI::Range(1, 256));
  sub->add_flag_callback(
      "--no-sandbox", [command] { command->sandbox = false; }, "Run the problems' code without isolation");
  sub->add_flag("--json", command->json, "Print one JSON object a problem and one of the totals");
}

}  // namespace nemoforge::cli
