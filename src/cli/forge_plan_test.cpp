#include "cli/forge_plan.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

namespace nemoforge::cli {
namespace {

ForgeSettings settings(int64_t num_rounds) {
  ForgeSettings result;
  result.model = "model";
  result.problems = "problems";
  result.out = "out";
  result.num_rounds = num_rounds;
  return result;
}

std::vector<std::string> names(const std::vector<ForgeStage>& stages) {
  std::vector<std::string> result;
  for (const ForgeStage& stage : stages) result.push_back(stage.name);
  return result;
}

// What follows each `flag` of a line.
std::vector<std::string> values(const ForgeStage& stage, const std::string& flag) {
  std::vector<std::string> result;
  for (size_t i = 0; i + 1 < stage.line.size(); ++i) {
    if (stage.line[i] == flag) result.push_back(stage.line[i + 1]);
  }
  return result;
}

TEST(ForgePlan, measures_before_and_after_each_round) {
  const std::vector<std::string> expected = {"before: trace",
                                             "before: verify",
                                             "round 1: trace",
                                             "round 1: verify",
                                             "round 1: dataset",
                                             "round 1: finetune",
                                             "round 1, held-out problems: trace",
                                             "round 1, held-out problems: verify"};
  EXPECT_EQ(names(plan_stages(settings(1))), expected);
  EXPECT_EQ(plan_stages(settings(3)).size(), 2U + 3 * 6);
  ForgeSettings last_only = settings(3);
  last_only.measures_last_only = true;
  EXPECT_EQ(plan_stages(last_only).size(), 2U + 3 * 4 + 2);
}

TEST(ForgePlan, a_round_samples_with_the_adapter_of_the_one_before_and_trains_on_all_that_held) {
  const std::vector<ForgeStage> stages = plan_stages(settings(2));
  const auto stage = [&](const std::string& name) {
    return *std::find_if(stages.begin(), stages.end(), [&](const auto& s) { return s.name == name; });
  };
  EXPECT_TRUE(values(stage("round 1: trace"), "--lora").empty());
  EXPECT_EQ(values(stage("round 2: trace"), "--lora"), std::vector<std::string>{"out/round_1/adapter"});
  EXPECT_EQ(values(stage("round 2: dataset"), "--run"),
            (std::vector<std::string>{"out/round_1/training", "out/round_2/training"}));
  EXPECT_EQ(values(stage("round 2: dataset"), "--held-out"),
            std::vector<std::string>{"out/problems/held_out"});
  EXPECT_TRUE(values(stage("round 2: finetune"), "--lora").empty());
  EXPECT_EQ(values(stage("round 2, held-out problems: trace"), "--lora"),
            std::vector<std::string>{"out/round_2/adapter"});
}

TEST(ForgePlan, deals_every_problem_to_one_round) {
  std::vector<trace::Problem> problems(11);
  for (size_t i = 0; i < problems.size(); ++i) problems[i].id = "p" + std::to_string(i);
  const auto rounds = deal_problems(problems, 3, 7);
  std::multiset<std::string> dealt;
  for (const auto& round : rounds) {
    EXPECT_GE(round.size(), 3U);
    EXPECT_LE(round.size(), 4U);
    for (const trace::Problem& problem : round) dealt.insert(problem.id);
  }
  EXPECT_EQ(dealt.size(), 11U);
  EXPECT_EQ(std::set<std::string>(dealt.begin(), dealt.end()).size(), 11U);
  // The order in which they were found changes nothing, the seed does.
  std::reverse(problems.begin(), problems.end());
  EXPECT_EQ(deal_problems(problems, 3, 7)[0][0].id, rounds[0][0].id);
  EXPECT_NE(deal_problems(problems, 11, 8)[0][0].id + deal_problems(problems, 11, 8)[1][0].id,
            deal_problems(problems, 11, 7)[0][0].id + deal_problems(problems, 11, 7)[1][0].id);
}

}  // namespace
}  // namespace nemoforge::cli
