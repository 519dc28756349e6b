#include "engine/prefix_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"

namespace nemoforge::engine {
namespace {

class PrefixCacheTest : public ::testing::Test {
 protected:
  // A prompt whose tokens were computed by a sequence that is gone: kept, with snapshots at `positions`.
  void see(const std::vector<int32_t>& prompt, const std::vector<int64_t>& positions,
           const PrefixCache::Adapter& adapter = nullptr) {
    std::vector<int32_t> blocks;
    ASSERT_TRUE(blocks_.allocate(static_cast<int64_t>(prompt.size()) / 4 + 1, blocks));
    cache_.insert(prompt, adapter, blocks);
    for (const int64_t position : positions) {
      EXPECT_TRUE(cache_.add_snapshot(std::span(prompt).first(static_cast<size_t>(position)), adapter, 3));
    }
    release(blocks);
  }
  void release(std::vector<int32_t>& blocks) {
    for (; !blocks.empty(); blocks.pop_back()) {
      blocks_.release(blocks.back());
      cache_.note_release(blocks.back());
    }
  }
  // How many tokens of the prompt are found, and where snapshots are wanted.
  std::pair<int64_t, std::vector<int64_t>> look(const std::vector<int32_t>& prompt,
                                                const PrefixCache::Adapter& adapter = nullptr) {
    PrefixCache::Match match = cache_.match(prompt, adapter);
    EXPECT_EQ(match.blocks.size() * 4, static_cast<size_t>(match.num_tokens));
    EXPECT_EQ(match.snapshot_slot >= 0, match.num_tokens > 0);
    release(match.blocks);
    return {match.num_tokens, match.wanted_snapshots};
  }
  static std::vector<int32_t> prompt(int32_t common_len, int32_t own_len, int32_t own) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < common_len; ++i) tokens.push_back(i);
    for (int32_t i = 0; i < own_len; ++i) tokens.push_back(1000 + own);
    return tokens;
  }

  cache::BlockAllocator blocks_{40};
  cache::SlotAllocator slots_{3};
  PrefixCache cache_{4, 8, blocks_, slots_};
};

using Found = std::pair<int64_t, std::vector<int64_t>>;

TEST_F(PrefixCacheTest, wants_a_snapshot_at_the_end_of_an_unknown_prompt) {
  EXPECT_EQ(look(prompt(20, 0, 0)), (Found{0, {16}}));
  EXPECT_EQ(look(prompt(16, 0, 0)), (Found{0, {8}})) << "the last token must be computed";
  EXPECT_EQ(look(prompt(8, 0, 0)), (Found{0, {}}));
}

TEST_F(PrefixCacheTest, finds_the_longest_beginning_that_has_a_snapshot) {
  see(prompt(22, 0, 0), {8, 16});
  EXPECT_EQ(look(prompt(22, 0, 0)), (Found{16, {}}));
  EXPECT_EQ(look(prompt(15, 3, 1)), (Found{8, {16}}));
}

TEST_F(PrefixCacheTest, wants_a_snapshot_where_prompts_part) {
  see(prompt(16, 20, 1), {32});
  EXPECT_EQ(look(prompt(16, 20, 2)), (Found{0, {16, 32}}));
  see(prompt(16, 20, 2), {16, 32});
  EXPECT_EQ(look(prompt(16, 20, 3)), (Found{16, {32}}));
}

TEST_F(PrefixCacheTest, compares_tokens_and_their_places) {
  see({1, 2, 3, 4, 5, 6, 7, 8}, {8});
  EXPECT_EQ(look({1, 2, 3, 4, 5, 6, 7, 8, 9}).first, 8);
  EXPECT_EQ(look({5, 6, 7, 8, 1, 2, 3, 4, 9}).first, 0);
  EXPECT_EQ(look({1, 2, 3, 4, 5, 6, 7, 9, 9}).first, 0);
}

TEST_F(PrefixCacheTest, adapters_have_their_own_prompts) {
  const PrefixCache::Adapter one(reinterpret_cast<const model::LoraAdapter*>(this), [](const void*) {});
  see(prompt(20, 0, 0), {16}, one);
  EXPECT_EQ(look(prompt(20, 0, 0)).first, 0);
  EXPECT_EQ(look(prompt(20, 0, 0), one).first, 16);
  const PrefixCache::Adapter other_at_its_address(reinterpret_cast<const model::LoraAdapter*>(this),
                                                  [](const void*) {});
  EXPECT_EQ(look(prompt(20, 0, 0), other_at_its_address).first, 0);
}

TEST_F(PrefixCacheTest, the_least_recently_used_goes_first_and_ends_before_beginnings) {
  see(prompt(16, 0, 0), {16});
  see(prompt(0, 16, 1), {16});
  EXPECT_EQ(cache_.num_idle_blocks(), 8);
  EXPECT_EQ(look(prompt(16, 1, 0)).first, 16) << "used again";
  EXPECT_TRUE(cache_.evict_block());
  EXPECT_EQ(look(prompt(0, 17, 1)).first, 0) << "its end, with the snapshot, is gone";
  EXPECT_EQ(cache_.num_snapshots(), 1);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(cache_.evict_block());
  EXPECT_EQ(look(prompt(16, 1, 0)).first, 16);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(cache_.evict_block());
  EXPECT_FALSE(cache_.evict_block());
  EXPECT_EQ(blocks_.num_free(), 40);
  EXPECT_EQ(slots_.num_free(), 3);
}

TEST_F(PrefixCacheTest, blocks_in_use_are_not_evicted) {
  see(prompt(16, 0, 0), {16});
  PrefixCache::Match match = cache_.match(prompt(16, 1, 0), nullptr);
  EXPECT_EQ(cache_.num_idle_blocks(), 0);
  EXPECT_FALSE(cache_.evict_block());
  release(match.blocks);
  EXPECT_EQ(cache_.num_idle_blocks(), 4);
}

TEST_F(PrefixCacheTest, the_least_recently_used_snapshot_makes_place) {
  see(prompt(0, 9, 1), {8});
  see(prompt(0, 9, 2), {8});
  see(prompt(0, 9, 3), {8});
  EXPECT_EQ(look(prompt(0, 9, 1)).first, 8);
  see(prompt(0, 9, 4), {8});
  EXPECT_EQ(look(prompt(0, 9, 1)).first, 8);
  EXPECT_EQ(look(prompt(0, 9, 2)).first, 0);
  EXPECT_EQ(cache_.num_snapshots(), 3);
}

TEST_F(PrefixCacheTest, an_evicted_beginning_takes_what_follows_it) {
  // Two sequences compute the same beginning at the same time; the second goes on below the first one's
  // blocks.
  std::vector<int32_t> first;
  std::vector<int32_t> second;
  ASSERT_TRUE(blocks_.allocate(2, first) && blocks_.allocate(4, second));
  cache_.insert(prompt(8, 0, 0), nullptr, first);
  cache_.insert(prompt(16, 0, 0), nullptr, second);
  release(first);
  EXPECT_EQ(cache_.num_idle_blocks(), 2);
  while (cache_.evict_block()) {
  }
  EXPECT_EQ(blocks_.num_free(), 36) << "the second still holds its own";
  release(second);
  EXPECT_EQ(blocks_.num_free(), 40);
}

}  // namespace
}  // namespace nemoforge::engine
