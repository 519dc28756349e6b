#include "text/tokenizer/merge_queue.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace nemoforge::text {
namespace {

TEST(MergeQueue, both_queues_give_the_same_order_whatever_is_pushed_between) {
  Rng rng(5);
  HeapMergeQueue heap;
  RankedMergeQueue ranked;
  for (int step = 0; step < 200000; ++step) {
    // Growing and shrinking by turns, down to empty.
    if (heap.empty() || rng.below(100) < (step / 1000 % 2 == 0 ? 60u : 40u)) {
      const MergeCandidate candidate{static_cast<uint32_t>(rng.below(40)),
                                     static_cast<int32_t>(rng.below(3000))};
      heap.push(candidate);
      ranked.push(candidate);
    } else {
      ASSERT_FALSE(ranked.empty());
      const MergeCandidate expected = heap.pop();
      const MergeCandidate got = ranked.pop();
      ASSERT_EQ(got.rank, expected.rank) << "step " << step;
      ASSERT_EQ(got.position, expected.position) << "step " << step;
    }
  }
}

}  // namespace
}  // namespace nemoforge::text
