#include "cli/forge_plan.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "base/sha256.h"

namespace nemoforge::cli {
namespace {

using CommandLine = std::vector<std::string>;

CommandLine trace_line(const ForgeSettings& settings, const std::string& problems, const std::string& run,
                       int64_t num_samples, double temperature, int64_t adapter_round) {
  CommandLine line = {"trace",
                      "--model",
                      settings.model,
                      "--problems",
                      problems,
                      "--run",
                      run,
                      "--samples",
                      std::to_string(num_samples),
                      "--temperature",
                      fmt::format("{}", temperature),
                      "--seed",
                      std::to_string(settings.seed),
                      "--resume"};
  if (settings.max_tokens) line.insert(line.end(), {"--max-tokens", std::to_string(*settings.max_tokens)});
  if (adapter_round > 0) line.insert(line.end(), {"--lora", adapter_dir(settings, adapter_round)});
  return line;
}

void add_verified_run(std::vector<ForgeStage>& stages, const std::string& name, CommandLine&& trace,
                      const std::string& run) {
  stages.push_back({name + ": trace", std::move(trace), run + "/run.sqlite"});
  stages.push_back({name + ": verify", {"verify", "--run", run}, run + "/run.sqlite"});
}

void add_held_out(std::vector<ForgeStage>& stages, const ForgeSettings& settings, const std::string& name,
                  const std::string& run, int64_t adapter_round) {
  CommandLine line =
      trace_line(settings, settings.path("problems/held_out"), run, settings.samples_of_held_out(),
                 settings.temperature_of_held_out(), adapter_round);
  // Whatever their ids: for the whole folder.
  line.insert(line.end(), {"--held-out", "."});
  add_verified_run(stages, name, std::move(line), run);
}

void add_round(std::vector<ForgeStage>& stages, const ForgeSettings& settings, int64_t round) {
  const std::string name = fmt::format("round {}", round);
  const std::string run = training_run(settings, round);
  add_verified_run(stages, name,
                   trace_line(settings, settings.path("problems/" + round_name(round)), run,
                              settings.num_samples, settings.temperature, round - 1),
                   run);
  const std::string data = dataset_path(settings, round);
  CommandLine dataset = {"dataset"};
  for (int64_t earlier = 1; earlier <= round; ++earlier) {
    dataset.insert(dataset.end(), {"--run", training_run(settings, earlier)});
  }
  dataset.insert(dataset.end(), {"--out", data, "--model", settings.model, "--held-out",
                                 settings.path("problems/held_out")});
  stages.push_back({name + ": dataset", std::move(dataset), data});
  const std::string adapter = adapter_dir(settings, round);
  CommandLine finetune = {"finetune", "--model", settings.model,
                          "--data",   data,      "--out",
                          adapter,    "--seed",  std::to_string(settings.seed),
                          "--resume"};
  finetune.insert(finetune.end(), settings.finetune_flags.begin(), settings.finetune_flags.end());
  stages.push_back({name + ": finetune", std::move(finetune), adapter + "/adapter_model.safetensors"});
  if (settings.measures_after(round)) {
    add_held_out(stages, settings, name + ", held-out problems", held_out_run(settings, round), round);
  }
}

}  // namespace

std::string ForgeSettings::path(const std::string& name) const {
  return (std::filesystem::path(out) / name).string();
}

std::string round_name(int64_t round) {
  return fmt::format("round_{}", round);
}

std::string before_run(const ForgeSettings& settings) {
  return settings.path("before");
}

std::string held_out_run(const ForgeSettings& settings, int64_t round) {
  return settings.path(round_name(round) + "/held_out");
}

std::string training_run(const ForgeSettings& settings, int64_t round) {
  return settings.path(round_name(round) + "/training");
}

std::string dataset_path(const ForgeSettings& settings, int64_t round) {
  return settings.path(round_name(round) + "/sft.jsonl");
}

std::string adapter_dir(const ForgeSettings& settings, int64_t round) {
  return settings.path(round_name(round) + "/adapter");
}

std::vector<ForgeStage> plan_stages(const ForgeSettings& settings) {
  std::vector<ForgeStage> stages;
  add_held_out(stages, settings, "before", before_run(settings), 0);
  for (int64_t round = 1; round <= settings.num_rounds; ++round) add_round(stages, settings, round);
  return stages;
}

std::vector<std::vector<trace::Problem>> deal_problems(const std::vector<trace::Problem>& training_problems,
                                                       int64_t num_rounds, uint64_t seed) {
  std::vector<std::pair<std::string, const trace::Problem*>> drawn;
  for (const trace::Problem& problem : training_problems) {
    drawn.emplace_back(sha256_hex(std::to_string(seed) + "/round/" + problem.id), &problem);
  }
  std::sort(drawn.begin(), drawn.end());
  std::vector<std::vector<trace::Problem>> rounds(static_cast<size_t>(num_rounds));
  for (size_t i = 0; i < drawn.size(); ++i) rounds[i % rounds.size()].push_back(*drawn[i].second);
  return rounds;
}

}  // namespace nemoforge::cli
