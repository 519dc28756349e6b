#include "verify/timing_statistics.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

MedianInterval exactly(double value) {
  return {value, value, value};
}

// An honest candidate: 1 ms by its own events and by the judge's clock, half of what the reference takes.
Timing honest() {
  Timing timing;
  timing.eager = exactly(2.0);
  timing.kernel_event = exactly(1.0);
  timing.kernel_wall = exactly(1.01);
  timing.settled = exactly(1.02);
  timing.message_ms = 0.3;
  timing.deliver_ms = 0.5;
  return timing;
}

// A card that copies 3 TB/s and a problem of 1 GB in and 1 GB out.
Floor floor_of_a_gigabyte() {
  return {.bytes = 2e9, .copy_bytes_per_s = 3e12, .output_bytes = 1e9};
}

std::vector<std::string> kinds(const std::vector<Finding>& findings) {
  std::vector<std::string> names;
  for (const Finding& finding : findings) names.push_back(finding.kind);
  return names;
}

TEST(TimingStatistics, the_median_of_few_values_lies_between_all_of_them) {
  const MedianInterval one = median_interval({3.0});
  EXPECT_EQ(one.median, 3.0);
  EXPECT_EQ(one.low, 3.0);
  EXPECT_EQ(one.high, 3.0);
  const MedianInterval four = median_interval({4.0, 1.0, 3.0, 2.0});
  EXPECT_EQ(four.median, 2.5);
  EXPECT_EQ(four.low, 1.0);
  EXPECT_EQ(four.high, 4.0);
}

// Ranks 40 and 60 of 100: the binomial's 95 %.
TEST(TimingStatistics, the_interval_of_a_hundred_values_is_that_of_the_sign_test) {
  std::vector<double> values;
  for (int i = 0; i < 100; ++i) values.push_back(i);
  const MedianInterval interval = median_interval(values);
  EXPECT_EQ(interval.median, 49.5);
  EXPECT_EQ(interval.low, 40.0);
  EXPECT_EQ(interval.high, 60.0);
}

TEST(TimingStatistics, one_slow_call_moves_neither_end) {
  std::vector<double> values(50, 1.0);
  values.push_back(1000.0);
  const MedianInterval interval = median_interval(values);
  EXPECT_EQ(interval.low, 1.0);
  EXPECT_EQ(interval.high, 1.0);
}

TEST(TimingStatistics, the_way_of_the_messages_is_what_the_clock_sees_beyond_the_work) {
  const TimedCalls calls = {.wall_ms = {1.5, 1.75, 3.0}, .event_ms = {1.0, 1.0, 1.0}, .settled_ms = {}};
  EXPECT_EQ(message_ms(calls), 0.75);
  EXPECT_EQ(wall_time(calls, 0.5).median, 1.25);
  EXPECT_EQ(event_time(calls).median, 1.0);
}

TEST(TimingStatistics, the_process_s_own_time_counts_while_the_judge_s_clock_agrees) {
  Timing timing = honest();
  EXPECT_EQ(timing.kernel().median, 1.0);
  timing.kernel_wall = exactly(1.5);
  EXPECT_EQ(timing.kernel().median, 1.5) << "a process cannot make itself faster than the judge saw";
  EXPECT_EQ(speedup(timing.eager, timing.kernel()).median, 2.0 / 1.5);
}

TEST(TimingStatistics, a_speedup_s_interval_takes_the_ends_that_are_furthest_apart) {
  const MedianInterval interval = speedup({2.0, 1.5, 3.0}, {1.0, 0.5, 2.0});
  EXPECT_EQ(interval.median, 2.0);
  EXPECT_EQ(interval.low, 0.75);
  EXPECT_EQ(interval.high, 6.0);
}

TEST(TimingStatistics, an_honest_call_raises_no_doubt) {
  EXPECT_THAT(doubts_of(honest(), floor_of_a_gigabyte()), IsEmpty());
  EXPECT_THAT(doubts_of(honest(), {}), IsEmpty()) << "nor does it where nothing is known of the problem";
}

TEST(TimingStatistics, a_time_below_that_of_the_bytes_is_impossible) {
  Timing timing = honest();
  timing.kernel_event = exactly(0.4);
  timing.kernel_wall = exactly(0.41);
  timing.settled = exactly(0.42);
  EXPECT_EQ(floor_ms(floor_of_a_gigabyte()), 1e3 * 2e9 / (1.15 * 3e12));
  EXPECT_THAT(kinds(doubts_of(timing, floor_of_a_gigabyte())), ElementsAre("impossible_speed"));
}

TEST(TimingStatistics, work_that_the_default_stream_does_not_see_is_hidden) {
  Timing timing = honest();
  timing.settled = exactly(1.5);
  EXPECT_THAT(kinds(doubts_of(timing, floor_of_a_gigabyte())), ElementsAre("stream_hide"));
}

TEST(TimingStatistics, a_clock_that_runs_slower_than_the_judge_s_is_false) {
  Timing timing = honest();
  timing.kernel_wall = exactly(2.0);
  EXPECT_THAT(kinds(doubts_of(timing, floor_of_a_gigabyte())), ElementsAre("timer_patch"));
  EXPECT_EQ(timing.kernel().median, 2.0);
}

TEST(TimingStatistics, work_that_waits_for_the_output_to_be_asked_for_is_deferred) {
  Timing timing = honest();
  timing.deliver_ms = 6.0;
  EXPECT_THAT(kinds(doubts_of(timing, floor_of_a_gigabyte())), ElementsAre("deferred_work"));
}

// A machine that is busy: the judge's clock reads anything, and no accusation follows from it, nor a time.
TEST(TimingStatistics, an_unsteady_clock_accuses_nobody_and_confirms_nothing) {
  Timing timing = honest();
  timing.kernel_wall = {14.0, 1.01, 85.0};
  timing.settled = {9.0, 1.02, 40.0};
  timing.deliver_ms = 20.0;
  EXPECT_THAT(doubts_of(timing, floor_of_a_gigabyte()), IsEmpty());
  EXPECT_THAT(tags_of(timing), ElementsAre("timing_untrusted"));
}

TEST(TimingStatistics, tags_say_what_a_time_is_worth) {
  EXPECT_THAT(tags_of(honest()), IsEmpty());
  Timing timing = honest();
  timing.kernel_event = timing.kernel_wall = exactly(0.02);
  EXPECT_THAT(tags_of(timing), ElementsAre("launch_bound", "review"));
  timing.compiled = exactly(0.1);
  EXPECT_THAT(tags_of(timing), ElementsAre("launch_bound"))
      << "the better baseline is what it is measured by";
}

}  // namespace
}  // namespace nemoforge::verify
