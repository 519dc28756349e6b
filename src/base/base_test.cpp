#include <atomic>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/integers.h"
#include "base/result.h"
#include "base/rng.h"
#include "base/thread_pool.h"

namespace nemoforge {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return error(ErrorCode::kInvalidArgument, "odd", "give an even number");
  return value / 2;
}

Result<int> quarter(int value) {
  NF_TRY(const int halved, half(value));
  NF_TRY(const int quartered, half(halved));
  return quartered;
}

TEST(Result, try_macro_returns_the_first_error) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).error().to_string(), "odd (give an even number)");
}

TEST(Check, failure_throws_with_the_values) {
  try {
    NF_CHECK(1 == 2) << "seen " << 7;
    FAIL();
  } catch (const InternalError& failure) {
    EXPECT_NE(std::string(failure.what()).find("1 == 2 seen 7"), std::string::npos);
  }
}

TEST(Integers, narrow_refuses_what_does_not_fit) {
  EXPECT_EQ(narrow<int32_t>(int64_t{-5}), -5);
  EXPECT_THROW((void)narrow<int32_t>(int64_t{1} << 40), InternalError);
  EXPECT_THROW((void)narrow<uint32_t>(int32_t{-1}), InternalError);
  EXPECT_FALSE(checked_multiply(int64_t{1} << 40, int64_t{1} << 40));
}

// Known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10).
TEST(Rng, philox_known_answers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Rng, streams_differ_and_repeat) {
  Rng a(1, 2);
  Rng same(1, 2);
  Rng other(1, 3);
  const uint64_t first = a.next_u64();
  EXPECT_EQ(first, same.next_u64());
  EXPECT_NE(first, other.next_u64());
  double sum = 0;
  for (int i = 0; i < 10000; ++i) sum += a.normal();
  EXPECT_LT(std::abs(sum / 10000), 0.05);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(a.below(7), 7u);
}

TEST(ThreadPool, runs_every_task_once_in_many_short_loops) {
  ThreadPool pool(4);
  for (int64_t num_tasks : {0, 1, 2, 3, 7, 100}) {
    for (int repeat = 0; repeat < 200; ++repeat) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(num_tasks));
      pool.parallel_for(num_tasks, [&](int64_t task_idx, int thread_idx) {
        EXPECT_GE(thread_idx, 0);
        EXPECT_LT(thread_idx, 4);
        runs[static_cast<size_t>(task_idx)].fetch_add(1);
      });
      for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
    }
  }
}

// Plain memory on both sides: the sanitizers see whether a loop's end orders its tasks' writes.
TEST(ThreadPool, the_caller_sees_what_the_tasks_wrote) {
  ThreadPool pool(4);
  std::vector<int64_t> values(64);
  for (int64_t repeat = 0; repeat < 2000; ++repeat) {
    const int64_t offset = repeat;
    pool.parallel_for(
        64, [&](int64_t task_idx, int) { values[static_cast<size_t>(task_idx)] = offset + task_idx; });
    for (int64_t i = 0; i < 64; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], repeat + i);
  }
}

}  // namespace
}  // namespace nemoforge
