#include "report/pass_rate.h"

#include <gtest/gtest.h>

namespace nemoforge::report {
namespace {

PassCounts counts(std::initializer_list<int64_t> num_correct) {
  PassCounts result;
  int64_t idx = 0;
  for (const int64_t correct : num_correct) result["p" + std::to_string(idx++)] = {correct, 4};
  return result;
}

TEST(PassRate, is_the_mean_over_problems) {
  const auto result = compare_passes(counts({0, 4, 2, 2}), counts({1, 4, 4, 3}), 0);
  ASSERT_TRUE(result.has_value());
  EXPECT_DOUBLE_EQ(result->before, 0.5);
  EXPECT_DOUBLE_EQ(result->after, 0.75);
}

TEST(PassRate, intervals_are_paired) {
  // Problems differ widely, but each gains the same: the difference is certain, the rates are not.
  const auto result = compare_passes(counts({0, 3, 0, 3, 0, 3}), counts({1, 4, 1, 4, 1, 4}), 1);
  ASSERT_TRUE(result.has_value());
  EXPECT_DOUBLE_EQ(result->difference_interval.low, 0.25);
  EXPECT_DOUBLE_EQ(result->difference_interval.high, 0.25);
  EXPECT_LT(result->before_interval.low, 0.25);
  EXPECT_GT(result->before_interval.high, 0.5);
}

TEST(PassRate, an_interval_of_many_problems_is_that_of_the_normal_approximation) {
  PassCounts before;
  for (int i = 0; i < 400; ++i) before["p" + std::to_string(i)] = {i % 2, 1};
  const auto result = compare_passes(before, before, 2);
  ASSERT_TRUE(result.has_value());
  EXPECT_NEAR(result->before_interval.low, 0.5 - 1.96 * 0.025, 0.005);
  EXPECT_NEAR(result->before_interval.high, 0.5 + 1.96 * 0.025, 0.005);
}

TEST(PassRate, a_problem_measured_once_only_counts_nowhere) {
  const auto result = compare_passes(counts({1, 2}), counts({3}), 0);
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->num_problems, 1);
  EXPECT_DOUBLE_EQ(result->before, 0.25);
  EXPECT_DOUBLE_EQ(result->after, 0.75);
}

TEST(PassRate, rejects_runs_without_a_problem_in_common) {
  EXPECT_FALSE(compare_passes({{"a", {1, 4}}}, {{"b", {1, 4}}}, 0).has_value());
  EXPECT_FALSE(compare_passes({}, {}, 0).has_value());
}

}  // namespace
}  // namespace nemoforge::report
