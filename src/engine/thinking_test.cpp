#include "engine/thinking.h"

#include <gtest/gtest.h>

namespace nemoforge::engine {
namespace {

constexpr int32_t kStart = 1;
constexpr int32_t kEnd = 2;
constexpr int32_t kToolStart = 3;
constexpr int32_t kToolEnd = 4;
constexpr int32_t kNewline = 5;
constexpr int32_t kWord = 6;

std::shared_ptr<const ThinkingTokens> tokens() {
  auto tokens = std::make_shared<ThinkingTokens>();
  tokens->think_start = kStart;
  tokens->think_end = kEnd;
  tokens->tool_call_start = kToolStart;
  tokens->tool_call_end = kToolEnd;
  tokens->newline = {false, false, false, false, false, true, false};
  return tokens;
}

// The completion when the model says `wanted`, token by token, and what the budget forces comes between.
std::vector<int32_t> complete(std::vector<int32_t> prompt, std::optional<ThinkingBudget> budget,
                              const std::vector<int32_t>& wanted, int* num_reasoning = nullptr) {
  ThinkingState state(tokens(), budget, prompt);
  std::vector<int32_t> completion;
  int reasoning = 0;
  const auto push = [&](int32_t id) {
    completion.push_back(id);
    if (state.push(id)) ++reasoning;
  };
  for (const int32_t id : wanted) {
    if (const auto forced = state.forced_token()) push(*forced);
    push(id);
  }
  if (const auto forced = state.forced_token()) push(*forced);
  if (num_reasoning != nullptr) *num_reasoning = reasoning;
  return completion;
}

using Ids = std::vector<int32_t>;

TEST(Thinking, counts_what_stands_between_the_tags) {
  int reasoning = 0;
  (void)complete({kWord}, {}, {kWord, kStart, kWord, kNewline, kEnd, kWord}, &reasoning);
  EXPECT_EQ(reasoning, 2);
  (void)complete({kWord, kStart}, {}, {kWord, kNewline, kEnd, kWord}, &reasoning);
  EXPECT_EQ(reasoning, 2);
  (void)complete({kStart, kWord, kEnd}, {}, {kWord, kWord}, &reasoning);
  EXPECT_EQ(reasoning, 0);
  (void)complete({kStart}, {}, {kWord, kWord}, &reasoning);
  EXPECT_EQ(reasoning, 2) << "a thought that never ends";
}

TEST(Thinking, without_a_budget_nothing_is_forced) {
  EXPECT_EQ(complete({kStart}, {}, Ids(1000, kWord)), Ids(1000, kWord));
}

TEST(Thinking, ends_at_the_budget_where_a_line_has_just_ended) {
  EXPECT_EQ(complete({kStart}, ThinkingBudget{3, 500}, {kWord, kWord, kNewline, kWord}),
            (Ids{kWord, kWord, kNewline, kEnd, kWord}));
}

TEST(Thinking, waits_for_the_next_line_feed) {
  EXPECT_EQ(complete({kStart}, ThinkingBudget{2, 500}, {kWord, kWord, kWord, kNewline, kWord}),
            (Ids{kWord, kWord, kWord, kNewline, kEnd, kWord}));
}

TEST(Thinking, waits_no_longer_than_the_grace) {
  int reasoning = 0;
  const Ids completion = complete({kStart}, ThinkingBudget{10, 5}, Ids(40, kWord), &reasoning);
  EXPECT_EQ(reasoning, 15);
  EXPECT_EQ(completion[15], kEnd);
  EXPECT_EQ(std::count(completion.begin(), completion.end(), kEnd), 1);
  EXPECT_EQ(complete({kStart}, ThinkingBudget{10, 0}, Ids(40, kWord))[10], kEnd);
}

TEST(Thinking, a_budget_of_zero_ends_a_thought_before_it_begins) {
  EXPECT_EQ(complete({kWord, kStart}, ThinkingBudget{0, 500}, {kWord}), (Ids{kEnd, kWord}));
  EXPECT_EQ(complete({kStart, kNewline}, ThinkingBudget{0, 500}, {kWord}), (Ids{kEnd, kWord}));
  EXPECT_EQ(complete({kWord}, ThinkingBudget{0, 500}, {kStart, kWord}), (Ids{kStart, kEnd, kWord}));
}

TEST(Thinking, leaves_a_thought_alone_that_ends_in_time) {
  const Ids wanted{kWord, kNewline, kEnd, kWord, kNewline, kWord, kWord};
  EXPECT_EQ(complete({kStart}, ThinkingBudget{3, 0}, wanted), wanted);
}

TEST(Thinking, never_ends_within_a_tool_call) {
  const Ids wanted{kWord, kToolStart, kWord, kNewline, kWord, kToolEnd, kWord};
  EXPECT_EQ(complete({kStart}, ThinkingBudget{2, 0}, wanted),
            (Ids{kWord, kToolStart, kWord, kNewline, kWord, kToolEnd, kEnd, kWord}));
}

TEST(Thinking, a_second_thought_shares_the_budget) {
  EXPECT_EQ(complete({kStart}, ThinkingBudget{3, 0}, {kWord, kEnd, kWord, kStart, kWord, kWord, kWord}),
            (Ids{kWord, kEnd, kWord, kStart, kWord, kWord, kEnd, kWord}));
}

TEST(Thinking, without_the_tags_in_the_vocabulary_nothing_is_a_thought) {
  ThinkingState state(nullptr, std::nullopt, Ids{kStart});
  EXPECT_FALSE(state.push(kWord));
  EXPECT_FALSE(state.forced_token());
}

}  // namespace
}  // namespace nemoforge::engine
