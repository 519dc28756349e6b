#include "base/progress.h"

#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nemoforge {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

// Collects what is written and lets the test move the clock.
struct Screen {
  std::vector<std::string> writes;
  double now_s = 1000;

  ProgressOutput output(bool is_terminal) {
    ProgressOutput result;
    result.write = [this](std::string_view text) { writes.emplace_back(text); };
    result.now_s = [this] { return now_s; };
    result.is_terminal = is_terminal;
    return result;
  }
};

TEST(Progress, plain_lines_come_at_intervals_with_rate_and_time_left) {
  Screen screen;
  {
    Progress progress("trace", "tokens", 10, 0, screen.output(false));
    progress.finish_item();
    EXPECT_THAT(screen.writes, SizeIs(0));
    screen.now_s += 10;
    progress.add_work(500);
    progress.finish_item();
    screen.now_s += 10;
    progress.set_note("1 failed");
    progress.add_work(500);
  }
  EXPECT_THAT(screen.writes, ElementsAre("trace 1/10 10% 50 tokens/s, 1:30 left\n",
                                         "trace 2/10 20% 50 tokens/s, 1 failed, 1:20 left\n",
                                         "trace 2/10 20% 50 tokens/s, 1 failed, took 20 s\n"));
}

TEST(Progress, earlier_items_count_as_done_but_not_for_the_rate) {
  Screen screen;
  Progress progress("trace", "", 10, 8, screen.output(false));
  EXPECT_EQ(progress.text(), "trace 8/10 80%");
  screen.now_s += 4;
  progress.finish_item();
  EXPECT_EQ(progress.text(), "trace 9/10 90% 0.25/s, 4 s left");
}

TEST(Progress, bar_redraws_one_line_that_fits_the_terminal) {
  Screen screen;
  ProgressOutput output = screen.output(true);
  output.width = 40;
  Progress progress("verify", "", 4, 0, output);
  screen.now_s += 1;
  progress.finish_item();
  ASSERT_THAT(screen.writes, SizeIs(1));
  EXPECT_THAT(screen.writes[0], StartsWith("\rverify [######------------------] 1/4"));
  EXPECT_THAT(screen.writes[0], EndsWith("\x1b[K"));
  EXPECT_LE(screen.writes[0].size(), 1 + 39 + 3u);
  progress.close();
  progress.close();
  EXPECT_THAT(screen.writes, SizeIs(3));
  EXPECT_EQ(screen.writes[2], "\n");
}

TEST(Progress, counts_from_many_threads) {
  Screen screen;
  Progress progress("trace", "tokens", 400, 0, screen.output(false));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int item = 0; item < 100; ++item) progress.finish_item();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(progress.text(), HasSubstr("400/400 100%"));
}

TEST(Progress, no_items_is_all_done) {
  Screen screen;
  Progress progress("trace", "tokens", 0, 0, screen.output(false));
  EXPECT_THAT(progress.text(), StartsWith("trace 0/0 100%"));
}

TEST(FormatDuration, chooses_the_form_by_length) {
  EXPECT_EQ(format_duration(-1), "0 s");
  EXPECT_EQ(format_duration(59.4), "59 s");
  EXPECT_EQ(format_duration(83), "1:23");
  EXPECT_EQ(format_duration(7384), "2:03:04");
}

}  // namespace
}  // namespace nemoforge
