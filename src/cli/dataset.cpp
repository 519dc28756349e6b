// nemoforge dataset: the verified traces of runs as a dataset to train on.
#include "dataset/dataset.h"

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/standard_input.h"
#include "io/json.h"
#include "store/problem_split.h"
#include "store/run_store.h"
#include "text/chat_template.h"
#include "text/tokenizer/tokenizer.h"
#include "trace/problem.h"

namespace nemoforge::cli {
namespace {

struct DatasetCommand {
  dataset::DatasetConfig config;
  std::vector<std::string> accepted_verdicts;
  std::vector<std::string> finish_reasons;
  std::vector<std::string> held_out;
  std::string model;
  std::string split_by = "problem";
  std::string manifest;
  bool json = false;
};

// Counts with the tokenizer and the template of the checkpoint that will be trained.
Result<dataset::TokenCounter> token_counter(const std::string& model_dir) {
  NF_TRY(text::Tokenizer loaded_tokenizer, text::Tokenizer::load(model_dir));
  NF_TRY(text::ChatTemplate loaded_template, text::ChatTemplate::load(model_dir));
  const auto tokenizer = std::make_shared<const text::Tokenizer>(std::move(loaded_tokenizer));
  const auto chat_template = std::make_shared<const text::ChatTemplate>(std::move(loaded_template));
  return dataset::TokenCounter(
      [tokenizer, chat_template](const std::string& messages_json) -> Result<int64_t> {
        NF_TRY(const io::Json messages, io::parse_json(messages_json));
        text::ChatRequest chat;
        chat.messages = &messages;
        chat.add_generation_prompt = false;
        NF_TRY(const std::string text, chat_template->render(chat));
        return static_cast<int64_t>(tokenizer->encode(text).size());
      });
}

// What a card can hold without becoming another card; CLI11 wants what is wrong, or nothing.
std::string is_licence_id(const std::string& text) {
  const bool is_good =
      !text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") == std::string::npos;
  return is_good ? "" : "a licence has small letters, digits, dots and dashes, such as apache-2.0";
}
std::string is_one_line(const std::string& text) {
  return !text.empty() && text.find_first_of("\r\n") == std::string::npos ? "" : "takes one line of text";
}

Status print_report(const DatasetCommand& command, const dataset::DatasetReport& report) {
  io::Json dropped = io::Json::object();
  std::string lines;
  for (const auto& [reason, count] : report.num_dropped) {
    dropped[dataset::drop_reason_text(reason)] = count;
    lines += fmt::format("  {:>8} {}\n", count, dataset::drop_reason_text(reason));
  }
  if (command.json) {
    return write_standard_output(io::dump_json({{"num_traces", report.num_traces},
                                                {"num_dropped", std::move(dropped)},
                                                {"num_rows", report.num_rows},
                                                {"num_validation_rows", report.num_validation_rows},
                                                {"num_problems", report.num_problems},
                                                {"num_tokens", report.num_tokens},
                                                {"files", report.files}}) +
                                 "\n");
  }
  return write_standard_output(fmt::format("{} traces\n{}  {:>8} rows of {} problems, {} tokens: {}\n",
                                           report.num_traces, lines, report.num_rows, report.num_problems,
                                           report.num_tokens, fmt::join(report.files, ", ")));
}

// Adds the problems at `path`, or, where it is a run, those that the run holds out.
Status hold_out(const std::string& path, std::vector<dataset::HeldOutProblem>& held_out) {
  store::ProblemSplits splits;
  if (std::filesystem::is_directory(path)) {
    NF_TRY(splits, store::read_problem_splits(path));
  }
  if (splits.empty()) {
    NF_TRY(const std::vector<trace::Problem> problems, trace::load_problems(path));
    for (const trace::Problem& problem : problems) held_out.push_back({problem.id, problem.source});
    return {};
  }
  NF_TRY(const store::RunStore run, store::RunStore::open(path, store::Access::kRead));
  NF_TRY(const std::vector<store::Problem> problems, run.problems());
  for (const store::Problem& problem : problems) {
    const auto side = splits.find(problem.id);
    if (side == splits.end() || side->second != store::Split::kHeldOut) continue;
    held_out.push_back({problem.id, problem.source});
  }
  return {};
}

Status run_dataset(DatasetCommand& command) {
  dataset::DatasetConfig& config = command.config;
  if (command.manifest.empty() && config.run_dirs.empty()) {
    throw CLI::ValidationError("dataset", "give --run or --from-manifest");
  }
  if (!command.manifest.empty()) {
    NF_TRY(const dataset::DatasetReport report,
           dataset::rebuild_dataset(command.manifest, config.out, config.run_dirs));
    return print_report(command, report);
  }
  const auto replace = [](std::set<std::string>& values, const std::vector<std::string>& given) {
    if (!given.empty()) values = {given.begin(), given.end()};
  };
  replace(config.accepted_verdicts, command.accepted_verdicts);
  replace(config.accepted_finish_reasons, command.finish_reasons);
  for (const std::string& path : command.held_out) NF_RETURN_IF_ERROR(hold_out(path, config.held_out));
  if (!command.model.empty()) {
    NF_TRY(config.count_tokens, token_counter(command.model));
  }
  NF_TRY(const dataset::DatasetReport report, dataset::build_dataset(config));
  return print_report(command, report);
}

void add_filter_flags(CLI::App& app, DatasetCommand& command) {
  dataset::DatasetConfig& config = command.config;
  app.add_option("--accept", command.accepted_verdicts, "Verdicts to keep (default: correct,correct_cpu)")
      ->delimiter(',')
      ->check(CLI::IsMember({"correct", "correct_cpu"}));
  app.add_option("--finish-reason", command.finish_reasons, "Finish reasons to keep (default: stop)")
      ->delimiter(',')
      ->check(CLI::IsMember({"stop", "length", "tool_calls"}));
  app.add_option("--min-speedup", config.min_speedup, "Minimum measured speedup")->check(CLI::PositiveNumber);
  app.add_option("--min-reasoning-tokens", config.min_reasoning_tokens, "Minimum number of reasoning tokens")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--max-reasoning-tokens", config.max_reasoning_tokens, "Maximum number of reasoning tokens")
      ->check(CLI::NonNegativeNumber);
  app.add_option(
         "--max-non-latin", config.max_non_latin_share,
         "Maximum fraction of letters that are neither Latin nor Greek, such as 0.01 for English only")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--max-tokens", config.max_tokens, "Maximum number of tokens of a conversation")
      ->check(CLI::PositiveNumber);
  app.add_option(
      "--model", command.model,
      "Checkpoint folder whose tokenizer and template count the tokens (default: the counts from sampling)");
  app.add_option("--held-out", command.held_out,
                 "Problems (a file, a folder, a KernelBench checkout; of a run, those it holds out) that no "
                 "row may come from or be like");
  app.add_option(
         "--contamination-similarity", config.contamination_similarity,
         "Minimum similarity to a held-out problem at which a problem's rows are dropped (above 1: only "
         "problems equal except in names, shapes and constants)")
      ->check(CLI::Range(0.5, 1.1))
      ->capture_default_str();
}

}  // namespace

void add_dataset_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<DatasetCommand>();
  dataset::DatasetConfig& config = command->config;
  // "nemoforge 0.1.0"
  config.nemoforge_version = app.version().substr(app.version().rfind(' ') + 1);
  CLI::App* sub =
      add_command(app, outcome, "dataset", "Write verified traces as a chat dataset for fine-tuning",
                  [command] { return run_dataset(*command); });
  sub->add_option("--run", config.run_dirs, "Folder of a run; takes several");
  sub->add_option(
      "--from-manifest", command->manifest,
      "Manifest whose rows to write again, byte for byte; --run says where its runs are if they moved");
  const std::map<std::string, dataset::RowFormat> formats = {{"chat", dataset::RowFormat::kChat},
                                                             {"kernelbook", dataset::RowFormat::kKernelBook}};
  sub->add_option(
         "--format", config.format,
         "Row format: chat (messages, for TRL and NeMo) or kernelbook (the columns of the public multi-turn "
         "trace sets)")
      ->transform(CLI::CheckedTransformer(formats));
  sub->add_option("--out", config.out,
                  "File to write, ending in .jsonl; a card and a manifest are written next to it")
      ->required();
  add_filter_flags(*sub, *command);
  sub->add_option(
         "--near-duplicate", config.near_duplicate_similarity,
         "Minimum similarity in code and reasoning at which only the better of two traces is kept (above 1: "
         "exact duplicates only)")
      ->check(CLI::Range(0.5, 1.1))
      ->capture_default_str();
  sub->add_option("--best-of", config.best_of,
                  "Maximum number of rows per problem: its best trace and the traces least similar to it")
      ->check(CLI::PositiveNumber);
  sub->add_option("--validation-fraction", config.validation_fraction,
                  "Fraction of the problems whose rows go to NAME.validation.jsonl")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  sub->add_option("--split-by", command->split_by, "Unit that the validation split does not divide")
      ->check(CLI::IsMember({"problem"}))
      ->capture_default_str();
  sub->add_option("--seed", config.split_seed, "Seed of that split")->capture_default_str();
  sub->add_option("--license", config.licence,
                  "Licence of the rows for the card, as the hub spells it: apache-2.0")
      ->check(CLI::Validator(is_licence_id, "ID"));
  sub->add_option("--source-license", config.source_licences,
                  "Licence of what the rows were made of, for the card: 'KernelBench problems: MIT'")
      ->check(CLI::Validator(is_one_line, "TEXT"));
  sub->add_flag("--json", command->json, "A summary as one JSON object on the last line");
}

}  // namespace nemoforge::cli
