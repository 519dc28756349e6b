#include "engine/engine_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nemoforge::engine {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMib = int64_t{1} << 20;
// Roughly Nemotron-3-Nano in bf16: 6 KiB a token, 48 MiB a state.
constexpr CacheCost kCost{32 * 6 * 1024, 48 * kMib};

TEST(PlanCaches, gives_every_sequence_its_blocks_where_there_is_room) {
  EngineConfig config;
  config.max_num_seqs = 4;
  config.num_snapshot_slots = 2;
  config.max_model_len = 1000;
  const auto plan = plan_caches(config, kCost, 262144, 128, int64_t{100} << 30);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->num_blocks, 4 * 32);
  EXPECT_EQ(plan->max_model_len, 1000);
  EXPECT_EQ(plan->max_num_batched_tokens, 2048);
}

TEST(PlanCaches, fits_into_the_memory_that_is_left_beside_the_states) {
  EngineConfig config;
  config.max_num_seqs = 4;
  config.num_snapshot_slots = 0;
  config.max_model_len = 4096;
  config.cache_bytes = 4 * 48 * kMib + 200 * kCost.block_bytes + 5;
  const auto plan = plan_caches(config, kCost, 262144, 128, 0);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->num_blocks, 200);
}

TEST(PlanCaches, shortens_a_length_that_nobody_asked_for) {
  EngineConfig config;
  config.max_num_seqs = 1;
  config.num_snapshot_slots = 0;
  config.cache_bytes = 48 * kMib + 100 * kCost.block_bytes;
  const auto plan = plan_caches(config, kCost, 262144, 128, 0);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->max_model_len, 3200);
  config.max_model_len = 3201;
  const auto refused = plan_caches(config, kCost, 262144, 128, 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(refused.error().message, HasSubstr("one sequence of 3201 tokens"));
  EXPECT_THAT(refused.error().hint, HasSubstr("max_num_seqs"));
}

TEST(PlanCaches, says_when_not_even_the_states_fit) {
  EngineConfig config;
  config.max_num_seqs = 256;
  const auto plan = plan_caches(config, kCost, 262144, 128, int64_t{4} << 30);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kResourceExhausted);
}

TEST(PlanCaches, raises_the_step_to_what_all_sequences_and_one_chunk_need) {
  EngineConfig config;
  config.max_num_seqs = 100;
  config.max_model_len = 64;
  config.max_num_batched_tokens = 16;
  const auto plan = plan_caches(config, {1, 1}, 64, 128, int64_t{1} << 30);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->max_num_batched_tokens, 228);
}

TEST(PlanCaches, names_a_limit_out_of_range) {
  const auto message = [](const std::function<void(EngineConfig&)>& spoil) {
    EngineConfig config;
    spoil(config);
    const auto plan = plan_caches(config, {1, 1}, 64, 16, int64_t{1} << 30);
    return plan ? std::string("accepted") : plan.error().message;
  };
  EXPECT_THAT(message([](EngineConfig& c) { c.max_num_seqs = 0; }), HasSubstr("max_num_seqs"));
  EXPECT_THAT(message([](EngineConfig& c) { c.max_model_len = 0; }), HasSubstr("max_model_len"));
  EXPECT_THAT(message([](EngineConfig& c) { c.block_size = -1; }), HasSubstr("block_size"));
  EXPECT_THAT(message([](EngineConfig& c) { c.num_blocks = 0; }), HasSubstr("num_blocks"));
  EXPECT_THAT(message([](EngineConfig& c) { c.max_num_batched_tokens = 0; }),
              HasSubstr("max_num_batched_tokens"));
  EXPECT_THAT(message([](EngineConfig& c) { c.num_snapshot_slots = -1; }), HasSubstr("num_snapshot_slots"));
}

TEST(FreeHostBytes, is_plausible) {
  EXPECT_GT(free_host_bytes(), kMib);
}

TEST(EngineConfig, a_device_gives_its_caches_what_the_utilization_leaves) {
  constexpr int64_t kGib = int64_t{1} << 30;
  EngineConfig config;
  config.gpu_memory_utilization = 0.5;
  const auto bytes = device_cache_bytes(config, {.free_bytes = 70 * kGib, .total_bytes = 80 * kGib});
  ASSERT_TRUE(bytes);
  EXPECT_EQ(*bytes, 40 * kGib - 10 * kGib - kActivationBytes);
  const auto full = device_cache_bytes(config, {.free_bytes = 40 * kGib, .total_bytes = 80 * kGib});
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kResourceExhausted);
  for (const double share : {0.0, -1.0, 1.5}) {
    config.gpu_memory_utilization = share;
    const auto wrong = device_cache_bytes(config, {.free_bytes = 1, .total_bytes = 1});
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace nemoforge::engine
