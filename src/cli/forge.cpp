// nemoforge forge: rounds of trace, verify, dataset and finetune, and a report of pass@1 on the problems held
// out, before the first round and after each. A stage is the command of its name, run in this process with
// the line that is printed, and resumes as it does.
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "base/interrupt.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/forge_plan.h"
#include "cli/forge_report.h"
#include "cli/forge_state.h"
#include "cli/standard_input.h"
#include "io/file.h"
#include "trace/id_pattern.h"
#include "trace/problem.h"
#include "verify/verifier.h"

namespace nemoforge::cli {
namespace {

namespace fs = std::filesystem;

struct ForgeCommand {
  std::string version;
  ForgeSettings settings;
  std::string measure = "each";
  bool resume = false;
};

// Runs one of nemoforge's commands; its words go where they always go. only_check: its flags are read and
// nothing is done.
Status run_line(const std::string& version, const std::vector<std::string>& line, bool only_check = false) {
  CLI::App app;
  app.set_version_flag("--version", "nemoforge " + version);
  Outcome outcome;
  add_trace_command(app, outcome);
  add_verify_command(app, outcome);
  add_dataset_command(app, outcome);
  add_finetune_command(app, outcome);
  add_number_checks(app);
  if (only_check) app.get_subcommand(line.front())->callback({});
  try {
    app.parse(std::vector<std::string>(line.rbegin(), line.rend()));  // CLI11 takes them from the back
  } catch (const CLI::ParseError& failure) {
    // Only what follows -- can be wrong.
    throw CLI::ValidationError(line.front(), failure.what());
  }
  return outcome.status;
}

// The two sides of the split.
struct Problems {
  std::vector<trace::Problem> training;
  std::vector<trace::Problem> held_out;
};

Result<Problems> load_sides(const ForgeSettings& settings) {
  NF_TRY(const trace::IdPattern held_out, trace::IdPattern::compile(settings.held_out_pattern));
  NF_TRY(std::vector<trace::Problem> problems, trace::load_problems(settings.problems));
  Problems sides;
  for (trace::Problem& problem : problems) {
    (held_out.matches(problem.id) ? sides.held_out : sides.training).push_back(std::move(problem));
  }
  if (sides.training.empty() || sides.held_out.empty()) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("--held-out '{}' matches {} of the {} problems in {}: training needs some of them, "
                    "and measuring needs some",
                    settings.held_out_pattern, sides.held_out.size(), problems.size(), settings.problems));
  }
  if (static_cast<int64_t>(sides.training.size()) < settings.num_rounds) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("{} has {} training problems, too few for {} rounds, each of which needs its own",
                    settings.problems, sides.training.size(), settings.num_rounds),
        "use fewer --rounds or more problems");
  }
  return sides;
}

Status make_folder(const fs::path& folder) {
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (!failure) return {};
  return error(ErrorCode::kIo, "cannot create the folder " + folder.string() + ": " + failure.message());
}

// Copies, so that the forge keeps what it ran on; under the folders and names that their ids come from.
Status copy_problems(const std::vector<trace::Problem>& problems, const std::string& folder) {
  for (const trace::Problem& problem : problems) {
    fs::path target = folder;
    if (problem.level > 0) target /= fmt::format("level{}", problem.level);
    NF_RETURN_IF_ERROR(make_folder(target));
    target /= fs::path(problem.path).filename();
    NF_RETURN_IF_ERROR(io::write_file_atomically(target.string(), problem.source));
  }
  return {};
}

Status copy_all_problems(const ForgeSettings& settings, const Problems& problems) {
  NF_RETURN_IF_ERROR(copy_problems(problems.held_out, settings.path("problems/held_out")));
  const auto rounds = deal_problems(problems.training, settings.num_rounds, settings.seed);
  for (size_t i = 0; i < rounds.size(); ++i) {
    const std::string name = round_name(static_cast<int64_t>(i) + 1);
    NF_RETURN_IF_ERROR(copy_problems(rounds[i], settings.path("problems/" + name)));
  }
  return {};
}

// Before hours of work rather than after them: every stage's flags are right, and verdicts can be had.
Status check_stages(const std::string& version, const std::vector<ForgeStage>& stages) {
  for (const ForgeStage& stage : stages) NF_RETURN_IF_ERROR(run_line(version, stage.line, true));
  NF_TRY(const verify::Verifier verifier, verify::Verifier::create({}));
  return {};
}

Status run_stages(const ForgeCommand& command, ForgeState& state, const std::vector<ForgeStage>& stages) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  size_t num_before = 0;
  for (const ForgeStage& stage : stages) num_before += state.is_done(stage) ? 1 : 0;
  if (num_before > 0) {
    NF_RETURN_IF_ERROR(write_standard_output(fmt::format("forge: continuing {}, {} of {} stages are done\n",
                                                         command.settings.out, num_before, stages.size())));
  }
  for (size_t i = 0; i < stages.size(); ++i) {
    const ForgeStage& stage = stages[i];
    if (state.is_done(stage)) continue;
    const double elapsed_s = std::chrono::duration<double>(Clock::now() - start).count();
    NF_RETURN_IF_ERROR(write_standard_output(
        fmt::format("\nforge: stage {} of {}, {}; {} so far\n$ nemoforge {}\n", i + 1, stages.size(),
                    stage.name, format_duration(elapsed_s), fmt::join(stage.line, " "))));
    const Status done = run_line(command.version, stage.line);
    if (interrupted()) {
      return error(ErrorCode::kCancelled, "interrupted in " + stage.name,
                   "run the same command again to continue");
    }
    if (!done) {
      Error failure = done.error();
      failure.message = stage.name + ": " + failure.message;
      return tl::unexpected<Error>(std::move(failure));
    }
    NF_RETURN_IF_ERROR(state.set_done(stage));
  }
  return {};
}

Status run_forge(ForgeCommand& command) {
  command.settings.measures_last_only = command.measure == "last";
  const ForgeSettings& settings = command.settings;
  if (command.resume && !fs::exists(settings.path("forge.json"))) {
    return error(ErrorCode::kNotFound, "there is no forge in " + settings.out + " to continue",
                 "start one without --resume");
  }
  NF_TRY(const Problems problems, load_sides(settings));
  const std::vector<ForgeStage> stages = plan_stages(settings);
  NF_RETURN_IF_ERROR(check_stages(command.version, stages));
  install_interrupt_handler();
  NF_RETURN_IF_ERROR(make_folder(settings.out));
  NF_TRY(ForgeState state, ForgeState::open(settings));
  NF_RETURN_IF_ERROR(copy_all_problems(settings, problems));
  NF_RETURN_IF_ERROR(run_stages(command, state, stages));
  NF_TRY(const std::string report, write_forge_report(settings));
  return write_standard_output(report);
}

void add_sampling_flags(CLI::App& app, ForgeSettings& settings) {
  app.add_option("--samples", settings.num_samples, "Number of samples per training problem")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--held-out-samples", settings.num_held_out_samples,
                 "Number of samples per held-out problem in each measurement (default: --samples)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  app.add_option("--temperature", settings.temperature, "Sampling temperature on the training problems")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str();
  app.add_option("--held-out-temperature", settings.held_out_temperature,
                 "Sampling temperature on the held-out problems (default: --temperature)")
      ->check(CLI::Range(0.0, 2.0));
  app.add_option("--max-tokens", settings.max_tokens,
                 "Maximum number of tokens per answer (default: that of nemoforge trace)")
      ->check(CLI::PositiveNumber);
}

}  // namespace

void add_forge_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<ForgeCommand>();
  command->version = app.version().substr(app.version().rfind(' ') + 1);
  ForgeSettings& settings = command->settings;
  CLI::App* sub = add_command(app, outcome, "forge",
                              "Run rounds of trace, verify, dataset and finetune, and report pass@1 before "
                              "and after; the same command continues an interrupted run",
                              [command] { return run_forge(*command); });
  sub->add_option("--model", settings.model, "Checkpoint folder in Hugging Face format")->required();
  sub->add_option("--problems", settings.problems,
                  "Folder of problems or KernelBench checkout, held-out problems included")
      ->required();
  sub->add_option("--out", settings.out, "Folder for all results: runs, datasets, adapters, report")
      ->required();
  sub->add_option("--held-out", settings.held_out_pattern,
                  "Regular expression; problems whose ids match it are only measured, never trained on")
      ->capture_default_str();
  sub->add_option(
         "--rounds", settings.num_rounds,
         "Number of rounds; each traces its own part of the training problems with the previous adapter")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}))
      ->capture_default_str();
  add_sampling_flags(*sub, settings);
  sub->add_option("--measure", command->measure,
                  "Rounds after which the held-out problems are measured: each or last")
      ->check(CLI::IsMember({"each", "last"}))
      ->capture_default_str();
  sub->add_option("--seed", settings.seed,
                  "Seed of the division into rounds, the sampling, the training and the intervals")
      ->capture_default_str();
  sub->add_flag("--resume", command->resume,
                "Fail if there is nothing to continue in --out, instead of starting");
  sub->add_option("finetune_flags", settings.finetune_flags,
                  "Flags after --, passed on to nemoforge finetune, such as -- --epochs 3");
}

}  // namespace nemoforge::cli
