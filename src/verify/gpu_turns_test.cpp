#include "verify/gpu_turns.h"

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

TEST(GpuTurns, many_share_and_one_is_alone) {
  GpuTurns turns;
  std::atomic<int> sharing = 0;
  std::atomic<int> alone = 0;
  std::atomic<int> violations = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 500; ++round) {
        if ((round + i) % 5 == 0) {
          const GpuTurns::Turn turn = turns.alone();
          if (++alone != 1 || sharing != 0) ++violations;
          --alone;
        } else {
          const GpuTurns::Turn turn = turns.share();
          ++sharing;
          if (alone != 0) ++violations;
          --sharing;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(violations, 0);
}

TEST(GpuTurns, whoever_wants_to_be_alone_goes_before_those_who_come_later) {
  GpuTurns turns;
  std::optional<GpuTurns::Turn> first;
  first.emplace(turns.share());
  std::vector<int> order;
  std::atomic<bool> waits = false;
  std::thread timed([&] {
    waits = true;
    const GpuTurns::Turn turn = turns.alone();
    order.push_back(1);
  });
  while (!waits) std::this_thread::yield();
  first.reset();
  timed.join();
  const GpuTurns::Turn later = turns.share();
  order.push_back(2);
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(GpuTurns, a_turn_that_moved_ends_once) {
  GpuTurns turns;
  {
    GpuTurns::Turn turn = turns.alone();
    const GpuTurns::Turn moved = std::move(turn);
  }
  const GpuTurns::Turn again = turns.alone();
}

}  // namespace
}  // namespace nemoforge::verify
