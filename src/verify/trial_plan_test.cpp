#include "verify/trial_plan.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

PlanFacts facts(uint64_t seed, double seconds) {
  return {.seed = seed,
          .kinds = {"plain", "normal", "normal3", "negated", "large", "zeros", "outliers", "ramp"},
          .has_parameters = true,
          .kernelbench_seeds = {1, 2, 3, 4, 5},
          .seconds_per_call = seconds};
}

int64_t count_kind(const Plan& plan, const std::string& kind) {
  return std::count_if(plan.trials.begin(), plan.trials.end(),
                       [&](const Trial& trial) { return trial.kind == kind; });
}

TEST(trial_plan, fast_candidates_get_every_kind_many_calls_and_kernelbenchs_own) {
  const Plan plan = make_plan(facts(7, 0.01), 99);
  for (const std::string& kind : facts(7, 0.01).kinds) EXPECT_GE(count_kind(plan, kind), 1) << kind;
  EXPECT_GE(count_kind(plan, "kernelbench"), 5);
  EXPECT_GE(plan.trials.size(), 36u);
  EXPECT_EQ(plan.instances.front().seed, 99u);
}

TEST(trial_plan, slow_candidates_get_fewer_trials_but_every_kind) {
  const Plan plan = make_plan(facts(7, 30), 99);
  EXPECT_LE(plan.trials.size(), facts(7, 30).kinds.size() + 4);
  for (const std::string& kind : facts(7, 30).kinds) EXPECT_GE(count_kind(plan, kind), 1) << kind;
  EXPECT_TRUE(std::any_of(plan.instances.begin(), plan.instances.end(),
                          [](const Instance& instance) { return instance.perturb.has_value(); }));
}

TEST(trial_plan, always_repeats_content_at_one_and_at_another_address) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Plan plan = make_plan(facts(seed, 1.0), 1);
    const auto same = std::find_if(plan.trials.begin(), plan.trials.end(), [](const Trial& trial) {
      return trial.repeats_previous && !trial.other_slot;
    });
    ASSERT_NE(same, plan.trials.end());
    ASSERT_NE(same, plan.trials.begin());
    EXPECT_EQ(same->seed, std::prev(same)->seed);
    EXPECT_TRUE(std::next(same)->other_slot);
  }
}

TEST(trial_plan, order_and_seeds_depend_on_the_secret) {
  std::set<std::string> first_kinds;
  std::set<uint64_t> seeds;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Plan plan = make_plan(facts(seed, 0.01), 1);
    first_kinds.insert(plan.trials.front().kind);
    seeds.insert(plan.trials.front().seed);
  }
  EXPECT_GT(first_kinds.size(), 3u);
  EXPECT_GT(seeds.size(), 20u);
}

}  // namespace
}  // namespace nemoforge::verify
