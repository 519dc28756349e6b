// Backends that choose tokens, against sample() and score().
#include "sampling/device_sampler.h"

#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string_view>

#include <gtest/gtest.h>

#include "base/rng.h"
#include "ops/backend.h"
#include "ops/device_choice.h"

namespace nemoforge::sampling {
namespace {

// Every backend of this build and machine that chooses tokens, or the one that NEMOFORGE_BACKEND names.
std::vector<std::unique_ptr<ops::Backend>> choosing_backends() {
  const char* wanted = std::getenv("NEMOFORGE_BACKEND");
  const auto is_wanted = [&](std::string_view name) { return wanted == nullptr || name == wanted; };
  std::vector<std::unique_ptr<ops::Backend>> backends;
  if (is_wanted("reference") || is_wanted("cpu")) backends.push_back(ops::make_reference_backend());
  if (is_wanted("cuda")) {
    if (auto backend = ops::make_cuda_backend()) backends.push_back(std::move(*backend));
  }
  return backends;
}

std::vector<float> random_logits(size_t count, uint64_t seed, double spread = 3.0) {
  Rng rng(seed);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = static_cast<float>(spread * rng.normal());
  return logits;
}

// One row that a device and the host choose from.
struct Choice {
  SamplingParams params;
  TokenHistory history;
  std::vector<uint32_t> token_mask;
  std::vector<int32_t> eos_token_ids;
  uint32_t position = 0;
};

std::vector<ops::ChosenToken> choose(ops::Backend& backend, std::span<const float> logits,
                                     std::span<const ops::TokenChoiceRow> rows) {
  const auto num_rows = static_cast<int64_t>(rows.size());
  const int64_t vocab_size = static_cast<int64_t>(logits.size()) / num_rows;
  const auto num_bytes = static_cast<int64_t>(logits.size_bytes());
  const Buffer memory = backend.allocate(num_bytes).value();
  backend.upload(logits.data(), memory.data(), num_bytes);
  std::vector<ops::ChosenToken> chosen(rows.size());
  backend.choose_tokens({.logits = ConstTensorView(memory.data(), DType::kF32, Shape{num_rows, vocab_size}),
                         .rows = rows,
                         .out = chosen});
  return chosen;
}

// The device's and the host's choices from random logits; both see the same.
void expect_equal_choices(ops::Backend& backend, std::span<const Choice> choices, int64_t vocab_size,
                          double spread) {
  const auto vocab = static_cast<size_t>(vocab_size);
  const std::vector<float> logits = random_logits(choices.size() * vocab, 17, spread);
  std::vector<SampleInput> inputs;
  std::vector<std::vector<uint32_t>> masks(choices.size());
  std::vector<ops::TokenChoiceRow> rows;
  for (size_t i = 0; i < choices.size(); ++i) {
    const Choice& choice = choices[i];
    inputs.push_back({.logits = std::span(logits).subspan(i * vocab, vocab),
                      .params = &choice.params,
                      .history = &choice.history,
                      .eos_token_ids = choice.eos_token_ids,
                      .token_mask = choice.token_mask,
                      .seed = 5,
                      .sample_idx = 2,
                      .position = choice.position});
    rows.push_back(to_choice_row(inputs[i], vocab_size, masks[i]));
  }
  const std::vector<ops::ChosenToken> chosen = choose(backend, logits, rows);
  SampleScratch scratch;
  for (size_t i = 0; i < choices.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "row " << i << " of vocabulary " << vocab_size);
    ASSERT_NE(chosen[i].status, ops::TokenChoiceStatus::kUndecided);
    const auto expected = sample(inputs[i], scratch);
    const auto actual = from_choice(chosen[i]);
    ASSERT_EQ(actual.has_value(), expected.has_value());
    if (!expected) {
      EXPECT_EQ(actual.error().code, expected.error().code);
      continue;
    }
    EXPECT_EQ(actual->token_id, expected->token_id);
    EXPECT_NEAR(actual->logprob, expected->logprob, 1e-5);
    ASSERT_EQ(actual->top_logprobs.size(), expected->top_logprobs.size());
    for (size_t j = 0; j < expected->top_logprobs.size(); ++j) {
      EXPECT_EQ(actual->top_logprobs[j].token_id, expected->top_logprobs[j].token_id);
      EXPECT_NEAR(actual->top_logprobs[j].logprob, expected->top_logprobs[j].logprob, 1e-5);
    }
  }
}

// Choices that differ in one thing each, with 24 positions of each.
std::vector<Choice> varied_choices(int64_t vocab_size) {
  const auto last = static_cast<int32_t>(vocab_size - 1);
  std::vector<Choice> kinds(1);
  const auto add = [&](const std::function<void(SamplingParams&)>& change) {
    change(kinds.emplace_back().params);
  };
  add([](SamplingParams& p) { p.temperature = 0; });
  add([](SamplingParams& p) { p.temperature = 0, p.top_logprobs = 20; });
  add([](SamplingParams& p) { p.temperature = 0.7F, p.top_k = 40; });
  add([](SamplingParams& p) { p.top_p = 0.5F; });
  add([](SamplingParams& p) { p.temperature = 0.6F, p.top_p = 0.95F; });
  add([](SamplingParams& p) { p.temperature = 0.8F, p.top_p = 0.9F, p.top_k = 50; });
  add([](SamplingParams& p) { p.temperature = 0.5F, p.min_p = 0.1F; });
  add([](SamplingParams& p) { p.temperature = 1.3F, p.top_p = 0.9F, p.min_p = 0.05F, p.top_logprobs = 3; });
  add([](SamplingParams& p) { p.top_k = 1; });
  add([&](SamplingParams& p) { p.top_k = 4, p.allowed_token_ids = {3, 17, last, 1}; });
  add([](SamplingParams& p) { p.allowed_token_ids = {3}, p.bad_token_ids = {3}; });  // leaves no token
  add([](SamplingParams& p) {
    p.temperature = 0, p.bad_token_ids = {1, 2, 3}, p.min_tokens = 100, p.stop_token_ids = {4};
  });
  kinds.back().eos_token_ids = {5, 6};
  Choice penalised;
  penalised.params.repetition_penalty = 1.3F;
  penalised.params.presence_penalty = 0.5F;
  penalised.params.frequency_penalty = -0.4F;
  penalised.params.logit_bias = {{5, 3.5F}, {2, -100.0F}, {last, 2.0F}};
  for (const int32_t id : {0, 5, 5, 7, last}) penalised.history.add_completion(id);
  penalised.history.add_prompt(std::vector<int32_t>{1, 5, 9});
  kinds.push_back(penalised);
  Choice masked;
  masked.params.top_p = 0.8F;
  masked.token_mask.assign(static_cast<size_t>(vocab_size + 31) / 32, 0x11111111U);
  kinds.push_back(masked);
  masked.params.allowed_token_ids = {0, 1, 2, 3, 4, 8};
  masked.params.bad_token_ids = {0};
  kinds.push_back(masked);
  std::vector<Choice> choices;
  for (uint32_t position = 0; position < 24; ++position) {
    for (Choice choice : kinds) {
      choice.position = position;
      choices.push_back(choice);
    }
  }
  return choices;
}

TEST(DeviceSampler, chooses_as_the_host_does) {
  for (const auto& backend : choosing_backends()) {
    SCOPED_TRACE(backend->name());
    for (const int64_t vocab_size : {33, 1000, 4099}) {
      expect_equal_choices(*backend, varied_choices(vocab_size), vocab_size, 3.0);
    }
  }
}

TEST(DeviceSampler, chooses_from_nemotrons_vocabulary) {
  for (const auto& backend : choosing_backends()) {
    SCOPED_TRACE(backend->name());
    std::vector<Choice> choices = varied_choices(131072);
    choices.resize(40);
    expect_equal_choices(*backend, choices, 131072, 4.0);
  }
}

TEST(DeviceSampler, equal_logits_rank_by_id) {
  for (const auto& backend : choosing_backends()) {
    std::vector<float> logits(500, 1.0F);
    ops::TokenChoiceRow greedy;
    greedy.num_top_logprobs = 4;
    const auto first = choose(*backend, logits, {&greedy, 1})[0];
    EXPECT_EQ(first.token_id, 0);
    ASSERT_EQ(first.top_logprobs.size(), 4U);
    for (int32_t i = 0; i < 4; ++i) EXPECT_EQ(first.top_logprobs[static_cast<size_t>(i)].first, i);
    ops::TokenChoiceRow three;
    three.inverse_temperature = 1;
    three.top_k = 3;
    three.uniform = 0.99;
    EXPECT_EQ(choose(*backend, logits, {&three, 1})[0].token_id, 2);
  }
}

TEST(DeviceSampler, logits_that_are_not_finite_are_told) {
  for (const auto& backend : choosing_backends()) {
    std::vector<float> logits = random_logits(700, 3);
    const ops::TokenChoiceRow rows[2] = {};
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      logits[599] = bad;  // of the second row
      const auto chosen = choose(*backend, logits, rows);
      EXPECT_EQ(chosen[0].status, ops::TokenChoiceStatus::kChosen);
      EXPECT_EQ(chosen[1].status, ops::TokenChoiceStatus::kNotFinite);
      EXPECT_EQ(from_choice(chosen[1]).error().code, ErrorCode::kInvalidData);
    }
  }
}

}  // namespace
}  // namespace nemoforge::sampling
