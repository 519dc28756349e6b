#include "report/statistics.h"

#include <cmath>

#include <gtest/gtest.h>

namespace nemoforge::report {
namespace {

double binomial(int64_t n, int64_t k) {
  double value = 1;
  for (int64_t i = 0; i < k; ++i) value *= static_cast<double>(n - i) / static_cast<double>(i + 1);
  return k > n ? 0 : value;
}

TEST(Statistics, pass_at_k_is_the_share_of_draws_that_hold_a_correct_sample) {
  for (int64_t n = 1; n <= 12; ++n) {
    for (int64_t c = 0; c <= n; ++c) {
      for (int64_t k = 1; k <= n; ++k) {
        EXPECT_NEAR(pass_at_k(n, c, k), 1 - binomial(n - c, k) / binomial(n, k), 1e-12) << n << c << k;
      }
    }
  }
  EXPECT_DOUBLE_EQ(pass_at_k(4, 1, 1), 0.25);
}

TEST(Statistics, pass_at_k_stays_finite_for_many_samples) {
  EXPECT_NEAR(pass_at_k(100000, 10, 1000), 1 - std::pow(0.99, 10), 1e-4);
}

TEST(Statistics, interval_is_wilsons) {
  // 8 of 10: the textbook's [0.4902, 0.9433].
  const auto estimate = mean_over_problems({1, 1, 1, 1, 1, 1, 1, 1, 0, 0});
  ASSERT_TRUE(estimate.has_value());
  EXPECT_DOUBLE_EQ(estimate->value, 0.8);
  EXPECT_NEAR(estimate->low, 0.4902, 1e-4);
  EXPECT_NEAR(estimate->high, 0.9433, 1e-4);
  EXPECT_EQ(estimate->num_problems, 10);
}

TEST(Statistics, interval_has_width_where_all_values_are_equal) {
  const auto none = mean_over_problems({0, 0, 0, 0, 0});
  EXPECT_EQ(none->low, 0);
  EXPECT_NEAR(none->high, 0.4345, 1e-4);
  const auto all = mean_over_problems({1, 1, 1, 1, 1});
  EXPECT_NEAR(all->low, 0.5655, 1e-4);
  EXPECT_EQ(all->high, 1);
  EXPECT_FALSE(mean_over_problems({}).has_value());
}

TEST(Statistics, quantiles_and_geometric_mean) {
  EXPECT_DOUBLE_EQ(quantile({1, 2, 3, 4}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile({7}, 0.9), 7);
  EXPECT_DOUBLE_EQ(quantile({1, 2, 3}, 1), 3);
  EXPECT_NEAR(geometric_mean({0.5, 2, 8}), 2, 1e-12);
}

}  // namespace
}  // namespace nemoforge::report
