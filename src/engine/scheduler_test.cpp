#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/rng.h"
#include "engine/emit.h"

namespace nemoforge::engine {
namespace {

using ::testing::ElementsAre;

SchedulerConfig small_config() {
  SchedulerConfig config;
  config.max_num_seqs = 4;
  config.max_num_batched_tokens = 32;
  config.max_model_len = 64;
  config.block_size = 4;
  config.chunk_size = 8;
  config.num_blocks = 32;
  config.num_snapshot_slots = 1;
  return config;
}

class SchedulerTest : public ::testing::Test {
 protected:
  // The n sequences of a request, queued.
  std::vector<std::shared_ptr<Sequence>> add(SchedulerState& state, int64_t prompt_len, int32_t n = 1,
                                             int32_t priority = 0) {
    auto request = std::make_shared<RequestState>();
    request->request.n = n;
    request->request.priority = priority;
    request->num_unbranched = n;
    std::vector<std::shared_ptr<Sequence>> sequences;
    for (int32_t i = 0; i < n; ++i) {
      auto sequence = std::make_shared<Sequence>(request, ThinkingState(nullptr, std::nullopt, {}));
      sequence->tokens.assign(static_cast<size_t>(prompt_len), 7);
      sequence->prompt_len = prompt_len;
      sequence->max_len = state.config.max_model_len;
      sequence->arrival_order = next_arrival_++;
      enqueue(state, sequence);
      sequences.push_back(sequence);
    }
    return sequences;
  }

  // A step without a model: every sequence whose logits are there gets a token.
  std::vector<ScheduledSequence> step(SchedulerState& state) {
    admit(state);
    std::vector<ScheduledSequence> work = budget(state);
    allocate(state, work);
    std::vector<Sequence*> chosen;
    std::vector<Sequence*> with_logits;
    for (const ScheduledSequence& item : work) {
      if (item.needs_logits()) with_logits.push_back(item.sequence);
      if (item.chooses_token()) chosen.push_back(item.sequence);
    }
    advance(state, work);
    for (Sequence* sequence : with_logits) {
      auto& branch = sequence->request->branch;
      if (branch && !branch->logits) branch->logits = std::make_shared<const std::vector<float>>(1, 0.0F);
    }
    for (const auto& sequence : state.running) {
      if (sequence->first_logits) chosen.push_back(sequence.get());
      sequence->first_logits.reset();
    }
    EXPECT_TRUE(state.running.empty() || !work.empty() || !chosen.empty()) << "stuck";
    for (Sequence* sequence : chosen) sequence->tokens.push_back(1);
    return work;
  }

  void expect_all_free(const SchedulerState& state) {
    const int64_t num_idle = state.prefix_cache ? state.prefix_cache->num_idle_blocks() : 0;
    const int64_t num_snapshots = state.prefix_cache ? state.prefix_cache->num_snapshots() : 0;
    EXPECT_EQ(state.blocks.num_free() + num_idle, state.blocks.num_blocks());
    EXPECT_EQ(state.slots.num_free() + num_snapshots, state.slots.num_slots());
    EXPECT_EQ(state.num_branch_slots, 0);
    EXPECT_TRUE(state.running.empty());
    EXPECT_TRUE(state.waiting.empty());
  }

  uint64_t next_arrival_ = 0;
};

TEST_F(SchedulerTest, admits_in_order_of_priority_and_arrival_up_to_the_limit) {
  SchedulerState state(small_config());
  std::vector<Sequence*> order;
  for (const int32_t priority : {1, 0, 1, 0, -1, 2}) order.push_back(add(state, 3, 1, priority)[0].get());
  admit(state);
  std::vector<Sequence*> running;
  for (const auto& sequence : state.running) running.push_back(sequence.get());
  EXPECT_THAT(running, ElementsAre(order[4], order[1], order[3], order[0]));
  std::vector<Sequence*> waiting;
  for (const auto& sequence : state.waiting) waiting.push_back(sequence.get());
  EXPECT_THAT(waiting, ElementsAre(order[2], order[5]));
}

TEST_F(SchedulerTest, admission_keeps_a_block_for_every_running_sequence) {
  SchedulerState state(small_config());
  add(state, 60);  // 15 of 32 blocks
  add(state, 56);  // 14: leaves 3, one would be needed by the first
  add(state, 8);   // 2, and 2 for the others: too many
  admit(state);
  EXPECT_EQ(state.running.size(), 2U);
  EXPECT_EQ(state.blocks.num_free(), 3);
}

TEST_F(SchedulerTest, admission_does_not_overtake) {
  SchedulerState state(small_config());
  add(state, 60);
  add(state, 60);
  add(state, 60);  // does not fit
  add(state, 1);   // would
  admit(state);
  EXPECT_EQ(state.running.size(), 2U);
}

TEST_F(SchedulerTest, budget_serves_decodes_first_and_cuts_prompts_at_chunk_boundaries) {
  SchedulerState state(small_config());
  const auto decoding = add(state, 5)[0];
  step(state);
  const auto first = add(state, 21)[0];
  const auto second = add(state, 30)[0];
  admit(state);
  const auto work = budget(state);
  ASSERT_EQ(work.size(), 3U);
  EXPECT_EQ(work[0].sequence, decoding.get());
  EXPECT_TRUE(work[0].is_decode);
  EXPECT_TRUE(work[0].needs_logits());
  EXPECT_EQ(work[1].sequence, first.get());
  EXPECT_EQ(work[1].num_tokens, 21) << "whole: a prompt's end is a boundary";
  EXPECT_FALSE(work[1].is_decode);
  EXPECT_TRUE(work[1].needs_logits());
  EXPECT_EQ(work[2].sequence, second.get());
  EXPECT_EQ(work[2].num_tokens, 8) << "10 are left, chunks are of 8";
  EXPECT_FALSE(work[2].needs_logits());
}

TEST_F(SchedulerTest, a_prompt_of_one_token_is_prefilled) {
  SchedulerState state(small_config());
  add(state, 1);
  const auto work = step(state);
  ASSERT_EQ(work.size(), 1U);
  EXPECT_FALSE(work[0].is_decode);
}

TEST_F(SchedulerTest, a_prompt_longer_than_the_budget_takes_several_steps) {
  SchedulerState state(small_config());
  const auto sequence = add(state, 50)[0];
  EXPECT_EQ(step(state)[0].num_tokens, 32);
  EXPECT_EQ(step(state)[0].num_tokens, 18);
  EXPECT_EQ(sequence->completion_len(), 1);
  EXPECT_TRUE(step(state)[0].is_decode);
}

TEST_F(SchedulerTest, out_of_blocks_the_last_in_the_order_of_service_is_preempted) {
  SchedulerConfig config = small_config();
  config.num_blocks = 16;
  SchedulerState state(config);
  const auto first = add(state, 20)[0];
  const auto second = add(state, 20)[0];
  const auto third = add(state, 8)[0];
  while (state.num_preemptions == 0) step(state);
  EXPECT_EQ(third->status, SequenceStatus::kWaiting);
  EXPECT_EQ(third->num_computed, 0);
  EXPECT_TRUE(third->blocks.empty());
  EXPECT_EQ(third->state_slot, -1);
  EXPECT_GT(third->completion_len(), 0) << "tokens stay";
  EXPECT_EQ(first->status, SequenceStatus::kRunning);
  EXPECT_EQ(second->status, SequenceStatus::kRunning);
  const auto completion_len = third->completion_len();
  finish(state, *first);

  // It prefills its prompt again and passes its completion through the decode kernels, a token a step.
  const auto prefill = step(state);
  ASSERT_EQ(prefill.back().sequence, third.get());
  EXPECT_EQ(prefill.back().num_tokens, 8);
  EXPECT_FALSE(prefill.back().is_decode);
  for (int64_t i = 0; i < completion_len; ++i) {
    EXPECT_EQ(third->completion_len(), completion_len);
    step(state);
  }
  EXPECT_EQ(third->completion_len(), completion_len + 1);
  finish(state, *second);
  finish(state, *third);
  expect_all_free(state);
}

TEST_F(SchedulerTest, a_preempted_sequence_s_work_leaves_the_step) {
  SchedulerConfig config = small_config();
  config.num_blocks = 16;
  SchedulerState state(config);
  add(state, 28);
  add(state, 24);
  while (state.num_preemptions == 0) {
    for (const ScheduledSequence& item : step(state)) {
      EXPECT_EQ(item.sequence->status, SequenceStatus::kRunning);
      EXPECT_GE(static_cast<int64_t>(item.sequence->blocks.size()) * 4, item.sequence->num_computed);
    }
  }
}

TEST_F(SchedulerTest, samples_share_the_blocks_of_their_prompt) {
  SchedulerState state(small_config());
  const auto samples = add(state, 10, 3);
  ASSERT_EQ(step(state).size(), 1U) << "the first prefills, the others wait";
  EXPECT_EQ(samples[1]->status, SequenceStatus::kWaiting);
  ASSERT_TRUE(samples[0]->request->branch);
  const int32_t branch_slot = samples[0]->request->branch->state_slot;
  EXPECT_THAT(state.copies,
              ElementsAre(CacheCopy{CacheCopy::What::kState, samples[0]->state_slot, branch_slot}));
  state.copies.clear();

  const auto work = step(state);
  EXPECT_EQ(work.size(), 1U) << "the others begin where the prompt ends, with its logits";
  for (const auto& sample : samples) {
    EXPECT_EQ(sample->status, SequenceStatus::kRunning);
    EXPECT_GE(sample->completion_len(), 1);
    EXPECT_EQ(sample->blocks[0], samples[0]->blocks[0]);
    EXPECT_EQ(sample->blocks[1], samples[0]->blocks[1]);
  }
  EXPECT_FALSE(samples[0]->request->branch) << "nobody waits for it";

  step(state);
  std::set<int32_t> last_blocks;
  for (const auto& sample : samples) {
    EXPECT_EQ(sample->blocks[1], samples[0]->blocks[1]) << "full blocks stay shared";
    last_blocks.insert(sample->blocks[2]);
  }
  EXPECT_EQ(last_blocks.size(), 3U) << "the partly filled block is copied before it is written";
  for (const auto& sample : samples) finish(state, *sample);
  expect_all_free(state);
}

TEST_F(SchedulerTest, a_branch_point_outlives_waves_of_samples) {
  SchedulerState state(small_config());
  const auto samples = add(state, 10, 11);
  int64_t prefilled = 0;
  for (int steps = 0; steps < 200 && !(state.running.empty() && state.waiting.empty()); ++steps) {
    for (const auto& item : step(state)) prefilled += item.is_decode ? 0 : item.num_tokens;
    const auto running = state.running;
    for (const auto& sequence : running) {
      if (sequence->completion_len() == 3) finish(state, *sequence);
    }
  }
  EXPECT_EQ(prefilled, 10) << "the prompt passes through the model once";
  for (const auto& sample : samples) EXPECT_EQ(sample->completion_len(), 3);
  expect_all_free(state);
}

TEST_F(SchedulerTest, without_a_slot_for_a_branch_point_samples_prefill_themselves) {
  SchedulerConfig config = small_config();
  config.num_snapshot_slots = 0;
  SchedulerState state(config);
  const auto samples = add(state, 10, 3);
  for (int i = 0; i < 5; ++i) step(state);
  for (const auto& sample : samples) EXPECT_GT(sample->completion_len(), 0);
}

TEST_F(SchedulerTest, a_branch_point_never_keeps_a_lone_sequence_from_starting) {
  SchedulerConfig config = small_config();
  config.num_blocks = 16;
  SchedulerState state(config);
  const auto samples = add(state, 32, 2);
  step(state);
  ASSERT_TRUE(samples[0]->request->branch);
  const auto urgent = add(state, 60, 1, -1)[0];
  finish(state, *samples[0]);
  step(state);
  EXPECT_EQ(urgent->status, SequenceStatus::kRunning);
  finish(state, *urgent);
  for (int i = 0; i < 3; ++i) step(state);
  EXPECT_GT(samples[1]->completion_len(), 0);
  finish(state, *samples[1]);
  expect_all_free(state);
}

TEST_F(SchedulerTest, a_finished_leader_leaves_the_prompt_to_the_next_sample) {
  SchedulerState state(small_config());
  const auto samples = add(state, 40, 2);
  step(state);
  EXPECT_TRUE(samples[0]->is_prefilling());
  finish(state, *samples[0]);
  for (int i = 0; i < 3; ++i) step(state);
  EXPECT_GT(samples[1]->completion_len(), 0);
  finish(state, *samples[1]);
  expect_all_free(state);
}

TEST_F(SchedulerTest, a_prompt_that_was_seen_begins_at_its_snapshot) {
  SchedulerConfig config = small_config();
  config.enable_prefix_caching = true;
  SchedulerState state(config);
  const auto first = add(state, 30)[0];
  EXPECT_EQ(step(state)[0].num_tokens, 24) << "up to the snapshot at the last boundary before the end";
  ASSERT_EQ(state.copies.size(), 1U);
  const CacheCopy snapshot = state.copies[0];
  EXPECT_EQ(snapshot.from, first->state_slot);
  state.copies.clear();
  step(state);
  const std::vector<int32_t> blocks = first->blocks;
  finish(state, *first);

  const auto second = add(state, 30)[0];
  EXPECT_EQ(step(state)[0].num_tokens, 6);
  EXPECT_THAT(state.copies, ElementsAre(CacheCopy{CacheCopy::What::kState, snapshot.to, second->state_slot}));
  EXPECT_TRUE(std::equal(blocks.begin(), blocks.begin() + 6, second->blocks.begin()))
      << "24 tokens of blocks";
  EXPECT_EQ(second->cached_tokens, 24);
  EXPECT_EQ(state.prefix_cache_hits, 24);
  finish(state, *second);
  expect_all_free(state);
}

TEST_F(SchedulerTest, cached_blocks_are_given_up_before_anyone_is_preempted) {
  SchedulerConfig config = small_config();
  config.enable_prefix_caching = true;
  config.num_blocks = 16;
  SchedulerState state(config);
  const auto first = add(state, 40)[0];
  for (int i = 0; i < 3; ++i) step(state);
  finish(state, *first);
  EXPECT_EQ(state.prefix_cache->num_idle_blocks(), 10);
  const auto second = add(state, 30)[0];
  second->tokens.front() = 8;
  while (second->num_tokens() < 64) step(state);
  EXPECT_EQ(state.num_preemptions, 0);
  finish(state, *second);
  expect_all_free(state);
}

// Whatever comes and goes, every sequence ends with all its tokens and nothing stays held.
TEST_F(SchedulerTest, random_traffic_ends_with_everything_free) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    SchedulerConfig config = small_config();
    config.num_blocks = 16 + static_cast<int64_t>(rng.below(20));
    config.num_snapshot_slots = static_cast<int64_t>(rng.below(3));
    config.enable_prefix_caching = seed % 2 == 1;
    SchedulerState state(config);
    std::vector<std::shared_ptr<Sequence>> live;
    int added = 0;
    for (int steps = 0; steps < 20000 && (added < 30 || !live.empty()); ++steps) {
      if (added < 30 && rng.below(4) == 0) {
        ++added;
        const auto n = static_cast<int32_t>(1 + rng.below(4));
        for (auto& sequence :
             add(state, 1 + static_cast<int64_t>(rng.below(40)), n, static_cast<int32_t>(rng.below(3)))) {
          sequence->max_len = sequence->prompt_len + 1 + static_cast<int64_t>(rng.below(24));
          live.push_back(std::move(sequence));
        }
      }
      const auto work = step(state);
      int64_t num_tokens = 0;
      for (const auto& item : work) num_tokens += item.num_tokens;
      ASSERT_LE(num_tokens, config.max_num_batched_tokens);
      ASSERT_LE(state.running.size(), 4U);
      state.copies.clear();
      std::erase_if(live, [&](const auto& sequence) {
        const bool is_over = sequence->num_tokens() >= sequence->max_len || rng.below(500) == 0;
        if (is_over) finish(state, *sequence);
        return is_over;
      });
    }
    EXPECT_TRUE(live.empty());
    expect_all_free(state);
    if (config.enable_prefix_caching && config.num_snapshot_slots > 0) {
      EXPECT_GT(state.prefix_cache_hits, 0) << "all prompts are of one token";
    }
  }
}

TEST_F(SchedulerTest, refuses_limits_under_which_it_could_stall) {
  SchedulerConfig config = small_config();
  config.num_blocks = 15;
  EXPECT_THROW(SchedulerState{config}, InternalError);
  config = small_config();
  config.max_num_batched_tokens = 11;
  EXPECT_THROW(SchedulerState{config}, InternalError);
}

class EmitTest : public ::testing::Test {
 protected:
  EmitTest() : state_(std::make_shared<RequestState>()), sequence_(state_, ThinkingState(nullptr, {}, {})) {
    sequence_.tokens = {5, 6};
    sequence_.prompt_len = 2;
    sequence_.max_len = 6;
  }
  Emission push(int32_t id) { return emit(sequence_, {id, 0, {}}, eos_); }

  std::vector<int32_t> eos_{2, 11};
  std::shared_ptr<RequestState> state_;
  Sequence sequence_;
};

TEST_F(EmitTest, an_ordinary_token_goes_on) {
  EXPECT_FALSE(push(9).finish);
  EXPECT_THAT(sequence_.tokens, ElementsAre(5, 6, 9));
}

TEST_F(EmitTest, an_end_of_sequence_token_stops) {
  const Emission emission = push(11);
  EXPECT_EQ(emission.finish, FinishReason::kStop);
  EXPECT_TRUE(emission.is_eos);
  EXPECT_FALSE(emission.is_stop_token);
}

TEST_F(EmitTest, a_stop_token_of_the_request_stops_and_is_told_apart) {
  state_->request.sampling.stop_token_ids = {11};
  const Emission emission = push(11);
  EXPECT_EQ(emission.finish, FinishReason::kStop);
  EXPECT_FALSE(emission.is_eos);
  EXPECT_TRUE(emission.is_stop_token);
}

TEST_F(EmitTest, ignore_eos_leaves_stop_tokens) {
  state_->request.sampling.ignore_eos = true;
  EXPECT_FALSE(push(2).finish);
  state_->request.sampling.stop_token_ids = {7};
  EXPECT_EQ(push(7).finish, FinishReason::kStop);
}

TEST_F(EmitTest, the_last_token_that_fits_ends_with_length) {
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(push(9).finish);
  EXPECT_EQ(push(9).finish, FinishReason::kLength);
}

TEST_F(EmitTest, a_stop_with_the_last_token_is_a_stop) {
  for (int i = 0; i < 3; ++i) (void)push(9);
  EXPECT_EQ(push(2).finish, FinishReason::kStop);
}

TEST_F(EmitTest, keeps_history_for_penalties_alone) {
  (void)push(9);
  EXPECT_TRUE(sequence_.history.entries().empty());
  state_->request.sampling.presence_penalty = 1;
  (void)push(9);
  EXPECT_EQ(sequence_.history.entries().at(9).num_in_completion, 1);
}

}  // namespace
}  // namespace nemoforge::engine
