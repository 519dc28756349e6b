#include "endpoint/endpoint_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nemoforge::endpoint {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::Le;

TEST(EndpointPool, spreads_requests_and_respects_the_limit) {
  EndpointPool pool(2, 2, {});
  EXPECT_EQ(pool.acquire(0), 0u);
  EXPECT_EQ(pool.acquire(0), 1u);
  EXPECT_EQ(pool.acquire(0), 0u);
  EXPECT_EQ(pool.acquire(0), 1u);
  EXPECT_EQ(pool.acquire(0), std::nullopt);
  pool.succeed(1);
  EXPECT_EQ(pool.acquire(1), 1u);
}

TEST(EndpointPool, a_failed_endpoint_rests_longer_each_time_and_comes_back) {
  EndpointPool pool(1, 8, {.base_s = 1, .max_s = 4});
  double now_s = 0;
  for (const double full_s : {1, 2, 4, 4}) {
    ASSERT_EQ(pool.acquire(now_s), 0u);
    EXPECT_EQ(pool.acquire(now_s).has_value(), full_s == 1) << "one trial at a time after a failure";
    if (full_s == 1) pool.succeed(0);
    pool.fail(0, now_s);
    EXPECT_EQ(pool.acquire(now_s), std::nullopt);
    const auto wait_s = pool.next_trial_in(now_s);
    ASSERT_TRUE(wait_s.has_value());
    EXPECT_THAT(*wait_s, AllOf(Ge(full_s / 2), Le(full_s)));
    now_s += *wait_s;
  }
  EXPECT_EQ(pool.acquire(now_s), 0u);
  pool.succeed(0);
  EXPECT_EQ(pool.next_trial_in(now_s), std::nullopt);
  EXPECT_EQ(pool.acquire(now_s), 0u);
  EXPECT_EQ(pool.acquire(now_s), 0u);
}

TEST(EndpointPool, requests_that_fail_together_are_one_failure) {
  EndpointPool pool(1, 4, {.base_s = 1, .max_s = 100});
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(pool.acquire(0).has_value());
  for (int i = 0; i < 4; ++i) pool.fail(0, 0);
  EXPECT_LE(*pool.next_trial_in(0), 1.0);
}

TEST(EndpointPool, the_others_take_over_and_the_wish_of_a_server_counts) {
  EndpointPool pool(2, 4, {.base_s = 1, .max_s = 4});
  ASSERT_EQ(pool.acquire(0), 0u);
  pool.fail(0, 0, 30);
  EXPECT_EQ(pool.acquire(10), 1u);
  EXPECT_EQ(pool.acquire(10), 1u);
  EXPECT_EQ(pool.acquire(31), 0u);
  EXPECT_EQ(pool.all_down_for(41), 0);
  pool.fail(1, 41);
  pool.fail(0, 50);
  EXPECT_EQ(pool.all_down_for(60), 19);
  pool.succeed(1);
  EXPECT_EQ(pool.all_down_for(60), 0);
}

}  // namespace
}  // namespace nemoforge::endpoint
