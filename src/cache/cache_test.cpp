#include <algorithm>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/rng.h"
#include "cache/block_allocator.h"
#include "cache/slot_allocator.h"

namespace nemoforge::cache {
namespace {

TEST(BlockAllocator, gives_every_block_once_and_then_none) {
  BlockAllocator allocator(3);
  std::set<int32_t> seen;
  for (int i = 0; i < 3; ++i) seen.insert(allocator.allocate().value());
  EXPECT_EQ(seen, (std::set<int32_t>{0, 1, 2}));
  EXPECT_FALSE(allocator.allocate());
  EXPECT_EQ(allocator.num_free(), 0);
}

TEST(BlockAllocator, a_shared_block_is_freed_by_its_last_holder) {
  BlockAllocator allocator(1);
  const int32_t block = allocator.allocate().value();
  allocator.share(block);
  EXPECT_EQ(allocator.reference_count(block), 2);
  allocator.release(block);
  EXPECT_EQ(allocator.num_free(), 0);
  allocator.release(block);
  EXPECT_EQ(allocator.num_free(), 1);
  EXPECT_THROW(allocator.release(block), InternalError);
  EXPECT_THROW(allocator.share(block), InternalError);
  EXPECT_THROW(allocator.release(7), InternalError);
  EXPECT_THROW(allocator.release(-1), InternalError);
}

TEST(BlockAllocator, allocates_all_or_nothing) {
  BlockAllocator allocator(4);
  std::vector<int32_t> blocks;
  EXPECT_TRUE(allocator.allocate(3, blocks));
  EXPECT_FALSE(allocator.allocate(2, blocks));
  EXPECT_EQ(blocks.size(), 3u);
  EXPECT_EQ(allocator.num_free(), 1);
  allocator.release(blocks);
  EXPECT_EQ(allocator.num_free(), 4);
}

TEST(BlockAllocator, random_use_never_gives_a_held_block) {
  BlockAllocator allocator(50);
  Rng rng(17);
  std::multiset<int32_t> holders;  // one entry a reference
  for (int step = 0; step < 20000; ++step) {
    const auto choice = rng.below(3);
    if (choice == 0) {
      const auto block = allocator.allocate();
      ASSERT_EQ(block.has_value(), std::set<int32_t>(holders.begin(), holders.end()).size() < 50);
      if (!block) continue;
      ASSERT_FALSE(holders.contains(*block));
      holders.insert(*block);
    } else if (!holders.empty()) {
      const auto held = std::next(holders.begin(), static_cast<long>(rng.below(holders.size())));
      if (choice == 1 && holders.size() < 200) {
        allocator.share(*held);
        holders.insert(*held);
      } else {
        allocator.release(*held);
        holders.erase(held);
      }
    }
  }
  for (const int32_t block : holders) allocator.release(block);
  EXPECT_EQ(allocator.num_free(), 50);
}

TEST(BlocksForTokens, rounds_up) {
  EXPECT_EQ(blocks_for_tokens(0, 16), 0);
  EXPECT_EQ(blocks_for_tokens(1, 16), 1);
  EXPECT_EQ(blocks_for_tokens(16, 16), 1);
  EXPECT_EQ(blocks_for_tokens(17, 16), 2);
}

TEST(SlotAllocator, gives_every_slot_once_and_refuses_a_second_release) {
  SlotAllocator allocator(2);
  const int32_t first = allocator.allocate().value();
  const int32_t second = allocator.allocate().value();
  EXPECT_NE(first, second);
  EXPECT_FALSE(allocator.allocate());
  allocator.release(first);
  EXPECT_THROW(allocator.release(first), InternalError);
  EXPECT_THROW(allocator.release(2), InternalError);
  EXPECT_EQ(allocator.allocate(), first);
}

}  // namespace
}  // namespace nemoforge::cache
