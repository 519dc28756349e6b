// What nemoforge forge does, as a list of stages: each is one of nemoforge's commands.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trace/problem.h"

namespace nemoforge::cli {

// What decides the outcome of a forge; all of it is kept in forge.json.
struct ForgeSettings {
  std::string model;
  std::string problems;
  std::string out;
  std::string held_out_pattern = "held_out";
  int64_t num_rounds = 1;
  int64_t num_samples = 4;                      // of a training problem
  std::optional<int64_t> num_held_out_samples;  // absent: num_samples
  double temperature = 1.0;                     // of a training problem's answers
  std::optional<double> held_out_temperature;   // absent: temperature
  std::optional<int64_t> max_tokens;            // absent: that of nemoforge trace
  bool measures_last_only = false;              // else the held-out problems are traced after every round
  uint64_t seed = 0;
  std::vector<std::string> finetune_flags;

  [[nodiscard]] int64_t samples_of_held_out() const { return num_held_out_samples.value_or(num_samples); }
  [[nodiscard]] double temperature_of_held_out() const { return held_out_temperature.value_or(temperature); }

  // A path in the folder `out`.
  [[nodiscard]] std::string path(const std::string& name) const;
  [[nodiscard]] bool measures_after(int64_t round) const {
    return !measures_last_only || round == num_rounds;
  }
};

// "round_2".
[[nodiscard]] std::string round_name(int64_t round);
// The run of the held-out problems without an adapter, and with the one of a round.
[[nodiscard]] std::string before_run(const ForgeSettings& settings);
[[nodiscard]] std::string held_out_run(const ForgeSettings& settings, int64_t round);
// The run of a round's training problems, its dataset and its adapter.
[[nodiscard]] std::string training_run(const ForgeSettings& settings, int64_t round);
[[nodiscard]] std::string dataset_path(const ForgeSettings& settings, int64_t round);
[[nodiscard]] std::string adapter_dir(const ForgeSettings& settings, int64_t round);

struct ForgeStage {
  std::string name;               // "round 1: verify"
  std::vector<std::string> line;  // of nemoforge, from the command's name on
  std::string output;             // a file that the stage has made when it is done
};

// All stages in order. First the held-out problems are traced and verified. A round traces its own training
// problems with the adapter of the round before, verifies them, makes a dataset of what held in all rounds so
// far, trains a new adapter for the base model on it, and traces and verifies the held-out problems with
// that. Training starts anew, so that an early round's adapter leaves nothing behind but its verified traces.
// Source: Zelikman et al., "STaR: bootstrapping reasoning with reasoning" (2022), section 3.1.
[[nodiscard]] std::vector<ForgeStage> plan_stages(const ForgeSettings& settings);

// The training problems of each round, drawn by the seed: every problem belongs to one round, so that each
// round meets problems that no adapter has seen. The rounds' sizes differ by one at most.
[[nodiscard]] std::vector<std::vector<trace::Problem>> deal_problems(
    const std::vector<trace::Problem>& training_problems, int64_t num_rounds, uint64_t seed);

}  // namespace nemoforge::cli
