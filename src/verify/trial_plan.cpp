#include "verify/trial_plan.h"

#include <algorithm>

#include "base/rng.h"

namespace nemoforge::verify {
namespace {

// Seeds go through JSON and into PyTorch: 48 bits are exact in both.
constexpr uint64_t kSeedMask = (uint64_t{1} << 48) - 1;
// Calls as fast as this are cheap enough for the whole plan; slower candidates get every kind once.
constexpr double kFastSeconds = 0.6;
constexpr size_t kManyTrials = 42;

void shuffle(std::vector<Trial>& trials, Rng& rng) {
  for (size_t i = trials.size(); i > 1; --i) std::swap(trials[i - 1], trials[rng.below(i)]);
}

// Puts, behind a random trial, the same inputs at the same address, and then at another one.
void insert_repeats(std::vector<Trial>& trials, Rng& rng) {
  const size_t position = rng.below(trials.size());
  Trial same = trials[position];
  same.repeats_previous = true;
  same.keep = false;
  Trial elsewhere = same;
  elsewhere.other_slot = true;
  trials.insert(trials.begin() + static_cast<std::ptrdiff_t>(position) + 1, {same, elsewhere});
}

}  // namespace

Plan make_plan(const PlanFacts& facts, uint64_t first_instance_seed) {
  Rng rng(facts.seed, 1);
  const auto draw = [&] { return rng.next_u64() & kSeedMask; };
  const bool fast = facts.seconds_per_call <= kFastSeconds;
  Plan plan;
  plan.instances.push_back({first_instance_seed, std::nullopt});
  const auto add = [&](const std::string& kind, int instance, uint64_t seed) {
    Trial trial;
    trial.kind = kind;
    trial.instance = instance;
    trial.seed = seed;
    plan.trials.push_back(trial);
  };
  // All of them, however slow the first call was: it is slow on a busy machine, or because the candidate
  // wants it.
  for (const std::string& kind : facts.kinds) add(kind, 0, draw());
  if (fast) {
    for (int i = 0; i < 4; ++i) add("plain", 0, draw());
    add("normal", 0, draw());
  }
  if (facts.has_parameters) {
    for (int i = 0; i < (fast ? 2 : 1); ++i) {
      plan.instances.push_back({draw(), draw()});
      const int instance = static_cast<int>(plan.instances.size()) - 1;
      add("plain", instance, draw());
      add("normal", instance, draw());
    }
  }
  if (fast) {
    for (const uint64_t seed : facts.kernelbench_seeds) {
      if (facts.has_parameters) plan.instances.push_back({seed, std::nullopt});
      add("plain", static_cast<int>(facts.has_parameters ? plan.instances.size() - 1 : 0), seed);
      plan.trials.back().kind = "kernelbench";
    }
    while (facts.seconds_per_call < kFastSeconds / 4 && plan.trials.size() < kManyTrials - rng.below(6)) {
      add("plain", 0, draw());
    }
  }
  shuffle(plan.trials, rng);
  for (Trial& trial : plan.trials) {
    trial.shuffle = static_cast<uint32_t>(rng.below(3) == 0 ? 0 : 1 + rng.below(1u << 30));
    trial.keep = rng.below(3) == 0;
    trial.record_accesses = rng.below(plan.trials.size()) < 4;
    trial.profile = rng.below(plan.trials.size()) < 3;
  }
  plan.trials[rng.below(plan.trials.size())].record_accesses = true;
  plan.trials[rng.below(plan.trials.size())].profile = true;
  plan.trials.front().keep = true;
  insert_repeats(plan.trials, rng);
  if (fast) insert_repeats(plan.trials, rng);
  return plan;
}

}  // namespace nemoforge::verify
