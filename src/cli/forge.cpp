// nemoforge forge: the whole round. Trace, verify, dataset, finetune, trace again on the problems held out,
// and a report of pass@1 before and after. Each stage is the command of its name, run in this process with
// the line that is printed, and resumes as it does.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "cli/command.h"
#include "cli/pass_rate.h"
#include "cli/standard_input.h"
#include "io/file.h"
#include "io/json.h"
#include "trace/id_pattern.h"
#include "trace/problem.h"

namespace nemoforge::cli {
namespace {

namespace fs = std::filesystem;

struct ForgeCommand {
  std::string version;
  std::string model;
  std::string problems;
  std::string out;
  std::string run;  // of all problems
  std::string held_out_pattern = "held_out";
  int64_t num_samples = 4;
  double temperature = 1.0;
  std::optional<int64_t> max_tokens;
  uint64_t seed = 0;
  std::vector<std::string> finetune_flags;

  [[nodiscard]] std::string path(const char* name) const { return (fs::path(out) / name).string(); }
};

using CommandLine = std::vector<std::string>;

// Runs one of nemoforge's commands; its words go where they always go.
Status run_command(const ForgeCommand& forge, const CommandLine& line) {
  NF_RETURN_IF_ERROR(write_standard_output(fmt::format("\n$ nemoforge {}\n", fmt::join(line, " "))));
  CLI::App app;
  app.set_version_flag("--version", "nemoforge " + forge.version);
  Outcome outcome;
  add_trace_command(app, outcome);
  add_verify_command(app, outcome);
  add_dataset_command(app, outcome);
  add_finetune_command(app, outcome);
  try {
    app.parse(CommandLine(line.rbegin(), line.rend()));  // CLI11 takes them from the back
  } catch (const CLI::ParseError& failure) {
    return error(ErrorCode::kInvalidArgument, line.front() + ": " + failure.what());
  }
  if (interrupted())
    return error(ErrorCode::kCancelled, "interrupted", "run the same command again to go on");
  return outcome.status;
}

CommandLine trace_line(const ForgeCommand& forge, const std::string& run) {
  CommandLine line = {"trace",
                      "--model",
                      forge.model,
                      "--problems",
                      forge.problems,
                      "--held-out",
                      forge.held_out_pattern,
                      "--run",
                      run,
                      "--samples",
                      std::to_string(forge.num_samples),
                      "--temperature",
                      fmt::format("{}", forge.temperature),
                      "--seed",
                      std::to_string(forge.seed),
                      "--resume"};
  if (forge.max_tokens) line.insert(line.end(), {"--max-tokens", std::to_string(*forge.max_tokens)});
  return line;
}

// The first run holds all problems: the training ones give the dataset, those held out the rate before.
Status run_stages(const ForgeCommand& forge) {
  const std::string& before = forge.run;
  const std::string after = forge.path("after");
  const std::string data = forge.path("sft.jsonl");
  const std::string adapter = forge.path("adapter");
  const auto run = [&](const CommandLine& line) { return run_command(forge, line); };
  NF_RETURN_IF_ERROR(run(trace_line(forge, before)));
  NF_RETURN_IF_ERROR(run({"verify", "--run", before}));
  NF_RETURN_IF_ERROR(run({"dataset", "--run", before, "--out", data, "--model", forge.model}));
  CommandLine finetune = {"finetune", "--model", forge.model, "--data", data,
                          "--out",    adapter,   "--resume",  "--seed", std::to_string(forge.seed)};
  finetune.insert(finetune.end(), forge.finetune_flags.begin(), forge.finetune_flags.end());
  NF_RETURN_IF_ERROR(run(finetune));
  CommandLine again = trace_line(forge, after);
  again.insert(again.end(), {"--filter", forge.held_out_pattern, "--lora", adapter});
  NF_RETURN_IF_ERROR(run(again));
  return run({"verify", "--run", after});
}

io::Json interval_json(const Interval& interval) {
  return io::Json::array({interval.low, interval.high});
}

Status write_report(const ForgeCommand& forge) {
  NF_TRY(const PassCounts before, count_held_out_passes(forge.run));
  NF_TRY(const PassCounts after, count_held_out_passes(forge.path("after")));
  NF_TRY(const PassComparison result, compare_passes(before, after, forge.seed));
  io::Json problems = io::Json::object();
  const auto add_counts = [&problems](const char* name, const PassCounts& counts) {
    for (const auto& [id, count] : counts) problems[id][name] = {count.num_correct, count.num_samples};
  };
  add_counts("before", before);
  add_counts("after", after);
  const io::Json json = {{"num_problems", result.num_problems},
                         {"pass_at_1_before", result.before},
                         {"pass_at_1_after", result.after},
                         {"before_interval_95", interval_json(result.before_interval)},
                         {"after_interval_95", interval_json(result.after_interval)},
                         {"difference", result.after - result.before},
                         {"difference_interval_95", interval_json(result.difference_interval)},
                         {"problems", std::move(problems)}};
  NF_RETURN_IF_ERROR(io::write_file_atomically(forge.path("report.json"), json.dump(2) + "\n"));
  const auto row = [](const char* name, double value, const Interval& interval) {
    return fmt::format("  {:<10} {:6.1f}%   [{:.1f}, {:.1f}]\n", name, 100 * value, 100 * interval.low,
                       100 * interval.high);
  };
  return write_standard_output(
      fmt::format("\npass@1 on {} problems held out (95% intervals, bootstrap over problems)\n",
                  result.num_problems) +
      row("before", result.before, result.before_interval) +
      row("after", result.after, result.after_interval) +
      row("difference", result.after - result.before, result.difference_interval) +
      forge.path("report.json") + "\n");
}

// Before hours of work rather than after them: both sides of the split have problems.
Status check_problems(const ForgeCommand& forge) {
  NF_TRY(const trace::IdPattern held_out, trace::IdPattern::compile(forge.held_out_pattern));
  NF_TRY(const std::vector<trace::Problem> problems, trace::load_problems(forge.problems));
  const auto num_held_out = std::count_if(problems.begin(), problems.end(),
                                          [&](const auto& problem) { return held_out.matches(problem.id); });
  const auto num_problems = static_cast<int64_t>(problems.size());
  if (num_held_out > 0 && num_held_out < num_problems) return {};
  return error(ErrorCode::kInvalidArgument,
               fmt::format("--held-out '{}' matches {} of the {} problems in {}: some must be left to train "
                           "on, and some to measure with",
                           forge.held_out_pattern, num_held_out, num_problems, forge.problems));
}

Status run_forge(ForgeCommand& forge) {
  if (forge.run.empty()) forge.run = forge.path("before");
  NF_RETURN_IF_ERROR(check_problems(forge));
  install_interrupt_handler();
  std::error_code failure;
  fs::create_directories(forge.out, failure);
  if (failure) {
    return error(ErrorCode::kIo, "cannot make the folder " + forge.out + ": " + failure.message());
  }
  NF_RETURN_IF_ERROR(run_stages(forge));
  return write_report(forge);
}

}  // namespace

void add_forge_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<ForgeCommand>();
  command->version = app.version().substr(app.version().rfind(' ') + 1);
  CLI::App* sub =
      add_command(app, outcome, "forge",
                  "Trace, verify, dataset, finetune, and pass@1 before and after; run it again to go on",
                  [command] { return run_forge(*command); });
  sub->add_option("--model", command->model, "Checkpoint folder in Hugging Face's form")->required();
  sub->add_option("--problems", command->problems,
                  "A folder of problems or a KernelBench checkout, with those to hold out")
      ->required();
  sub->add_option("--out", command->out, "Folder of the round: runs, dataset, adapter, report")->required();
  sub->add_option("--run", command->run,
                  "Run of all problems, begun or finished (default: before, in --out)");
  sub->add_option("--held-out", command->held_out_pattern,
                  "Problems whose id this regular expression is found in are measured, never trained on")
      ->capture_default_str();
  sub->add_option("--samples", command->num_samples, "Answers to each problem")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  sub->add_option("--temperature", command->temperature, "Of all sampling")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str();
  sub->add_option("--max-tokens", command->max_tokens, "Longest answer (default: that of nemoforge trace)")
      ->check(CLI::PositiveNumber);
  sub->add_option("--seed", command->seed, "Of sampling, training and the intervals")->capture_default_str();
  sub->add_option("finetune_flags", command->finetune_flags,
                  "After --: further flags of nemoforge finetune, such as -- --epochs 3");
}

}  // namespace nemoforge::cli
