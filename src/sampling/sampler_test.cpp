#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "base/rng.h"
#include "sampling/logit_kernels.h"

namespace nemoforge::sampling {
namespace {

std::vector<float> random_logits(size_t vocab, uint64_t seed, double spread = 3.0) {
  Rng rng(seed);
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = static_cast<float>(spread * rng.normal());
  return logits;
}

// The definitions of SamplingParams, in double precision, by a full sort: probability of every token, 0 where
// filtered.
std::vector<double> naive_distribution(const SampleInput& input) {
  const SamplingParams& p = *input.params;
  const size_t vocab = input.logits.size();
  constexpr double kInf = std::numeric_limits<double>::infinity();
  std::vector<double> logits(input.logits.begin(), input.logits.end());
  const std::set<int32_t> allowed(p.allowed_token_ids.begin(), p.allowed_token_ids.end());
  for (size_t id = 0; id < vocab; ++id) {
    if (!allowed.empty() && !allowed.contains(static_cast<int32_t>(id))) logits[id] = -kInf;
    if (!input.token_mask.empty() && !(input.token_mask[id / 32] >> (id % 32) & 1U)) logits[id] = -kInf;
  }
  for (int32_t id : p.bad_token_ids) logits[static_cast<size_t>(id)] = -kInf;
  if (static_cast<int32_t>(input.position) < p.min_tokens) {
    for (int32_t id : input.eos_token_ids) logits[static_cast<size_t>(id)] = -kInf;
    for (int32_t id : p.stop_token_ids) logits[static_cast<size_t>(id)] = -kInf;
  }
  for (const auto& [id, bias] : p.logit_bias) logits[static_cast<size_t>(id)] += bias;
  if (input.history != nullptr) {
    for (const auto& [id, entry] : input.history->entries()) {
      double& logit = logits[static_cast<size_t>(id)];
      logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
      logit -= static_cast<double>(p.frequency_penalty) * entry.num_in_completion;
      if (entry.num_in_completion > 0) logit -= p.presence_penalty;
    }
  }
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights(vocab);
  for (size_t id = 0; id < vocab; ++id) weights[id] = std::exp((logits[id] - max) / p.temperature);
  std::vector<size_t> order(vocab);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return weights[a] > weights[b]; });
  std::erase_if(order, [&](size_t id) { return weights[id] < p.min_p || weights[id] == 0; });
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < order.size()) {
    order.resize(static_cast<size_t>(p.top_k));
  }
  double total = 0;
  for (size_t id : order) total += weights[id];
  double mass = 0;
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || mass < p.top_p * total)) mass += weights[order[kept++]];
  order.resize(kept);
  std::vector<double> probabilities(vocab, 0.0);
  for (size_t id : order) probabilities[id] = weights[id] / mass;
  return probabilities;
}

// Pearson's statistic over the tokens that are expected at least 5 times, the rest pooled.
struct ChiSquare {
  double statistic = 0;
  int degrees = -1;
};

ChiSquare chi_square(const std::map<int32_t, int>& observed, const std::vector<double>& probabilities,
                     int draws) {
  ChiSquare result;
  double rest_expected = 0;
  double rest_observed = 0;
  for (size_t id = 0; id < probabilities.size(); ++id) {
    const double expected = probabilities[id] * draws;
    const auto found = observed.find(static_cast<int32_t>(id));
    const double count = found == observed.end() ? 0 : found->second;
    if (expected < 5) {
      rest_expected += expected;
      rest_observed += count;
      continue;
    }
    result.statistic += (count - expected) * (count - expected) / expected;
    ++result.degrees;
  }
  if (rest_expected >= 5) {
    result.statistic += (rest_observed - rest_expected) * (rest_observed - rest_expected) / rest_expected;
    ++result.degrees;
  }
  return result;
}

int32_t choose(const SampleInput& input) {
  SampleScratch scratch;
  const auto sampled = sample(input, scratch);
  EXPECT_TRUE(sampled) << sampled.error().message;
  return sampled ? sampled->token_id : -1;
}

// A distribution test for each path of the sampler: which tokens may come, and how often they do.
TEST(Sampler, draws_from_the_distribution_of_the_naive_definition) {
  TokenHistory history;
  history.add_prompt(std::vector<int32_t>{1, 2, 3, 40});
  for (int32_t id : {3, 3, 5, 7}) history.add_completion(id);
  std::vector<uint32_t> mask(7, 0x5fffff7fU);

  std::map<std::string, SamplingParams> cases;
  cases["plain"] = {};
  cases["cold"].temperature = 0.3F;
  cases["hot"].temperature = 2.5F;
  cases["top_p"].top_p = 0.9F;
  cases["small top_p"].top_p = 0.05F;
  cases["top_k"].top_k = 17;
  cases["top_k 1"].top_k = 1;
  cases["top_k over vocabulary"].top_k = 1000;
  cases["min_p"].min_p = 0.05F;
  cases["min_p 1"].min_p = 1.0F;
  auto& together = cases["together"];
  together.temperature = 0.8F;
  together.top_p = 0.8F;
  together.top_k = 4;
  together.min_p = 0.02F;
  cases["min_p and top_p"] = together;
  cases["min_p and top_p"].top_k = 0;
  auto& penalties = cases["penalties"];
  penalties.repetition_penalty = 1.7F;
  penalties.presence_penalty = 0.6F;
  penalties.frequency_penalty = -1.1F;
  penalties.logit_bias = {{3, 4.0F}, {199, 5.5F}};
  auto& restricted = cases["restricted"];
  restricted.allowed_token_ids = {3, 7, 9, 100, 150, 199};
  restricted.bad_token_ids = {9};
  restricted.stop_token_ids = {150};
  restricted.min_tokens = 5;

  constexpr int kDraws = 20000;
  const std::vector<int32_t> eos{2, 11};
  for (auto& [name, params] : cases) {
    SCOPED_TRACE(name);
    const std::vector<float> logits = random_logits(200, 7);
    SampleInput input{.logits = logits, .params = &params, .eos_token_ids = eos, .seed = 42};
    if (params.has_penalties()) input.history = &history;
    if (name == "restricted") input.token_mask = mask;
    input.position = 3;
    const std::vector<double> expected = naive_distribution(input);
    SampleScratch scratch;
    std::map<int32_t, int> observed;
    for (int i = 0; i < kDraws; ++i) {
      input.sample_idx = static_cast<uint32_t>(i);
      const auto sampled = sample(input, scratch);
      ASSERT_TRUE(sampled);
      ASSERT_GT(expected[static_cast<size_t>(sampled->token_id)], 0) << "token " << sampled->token_id;
      ++observed[sampled->token_id];
    }
    const ChiSquare fit = chi_square(observed, expected, kDraws);
    // Five deviations, by Wilson and Hilferty's approximation, are beyond chance.
    const double spread = 2.0 / (9.0 * std::max(fit.degrees, 1));
    EXPECT_LT(fit.statistic, std::max(fit.degrees, 1) * std::pow(1 - spread + 5 * std::sqrt(spread), 3));
  }
}

// The extremes of the uniform number reach the first and the last token of the support, so comparing those
// over many rows compares the supports.
TEST(Sampler, keeps_exactly_the_tokens_of_the_naive_definition_in_a_large_vocabulary) {
  for (const double spread : {0.5, 2.0, 6.0}) {
    for (const auto& [top_k, top_p, min_p] : std::vector<std::tuple<int32_t, float, float>>{
             {0, 0.95F, 0.0F}, {50, 1.0F, 0.0F}, {1000, 0.9F, 0.0F}, {0, 1.0F, 0.01F}, {0, 0.7F, 0.001F}}) {
      SamplingParams params;
      params.top_k = top_k;
      params.top_p = top_p;
      params.min_p = min_p;
      const std::vector<float> logits = random_logits(131072, 11, spread);
      SampleInput input{.logits = logits, .params = &params, .seed = 5};
      const std::vector<double> expected = naive_distribution(input);
      SampleScratch scratch;
      ASSERT_TRUE(sample(input, scratch));
      std::set<int32_t> kept;
      for (const auto& candidate : scratch.candidates) kept.insert(candidate.token_id);
      std::set<int32_t> naive;
      for (size_t id = 0; id < expected.size(); ++id) {
        if (expected[id] > 0) naive.insert(static_cast<int32_t>(id));
      }
      // fp32 weights may order two nearly equal tokens at the cut otherwise than fp64 does.
      std::vector<int32_t> differing;
      std::set_symmetric_difference(kept.begin(), kept.end(), naive.begin(), naive.end(),
                                    std::back_inserter(differing));
      for (const int32_t id : differing) {
        const double cut = 1.0 / static_cast<double>(naive.size());
        EXPECT_LT(expected[static_cast<size_t>(id)], cut) << "token " << id;
      }
      EXPECT_LE(differing.size(), 2U) << "spread " << spread << " top_k " << top_k << " top_p " << top_p;
    }
  }
}

TEST(Sampler, greedy_takes_the_largest_logit_and_the_lowest_id_among_equals) {
  SamplingParams params;
  params.temperature = 0;
  for (const size_t vocab : {1U, 5U, 16U, 33U, 1000U}) {
    std::vector<float> logits = random_logits(vocab, vocab);
    for (float& logit : logits) logit = std::min(logit, 4.0F);
    const size_t first = vocab / 3;
    logits[first] = 5.0F;
    logits[vocab - 1] = 5.0F;
    EXPECT_EQ(choose({.logits = logits, .params = &params}), static_cast<int32_t>(first)) << vocab;
  }
}

TEST(Sampler, draw_depends_on_seed_sample_and_position_alone) {
  SamplingParams params;
  const std::vector<float> logits = random_logits(5000, 1, 1.0);
  const SampleInput input{.logits = logits, .params = &params, .seed = 9, .sample_idx = 2, .position = 17};
  const int32_t token = choose(input);
  SampleScratch used;
  SampleInput other = input;
  std::set<int32_t> others;
  for (uint32_t i = 0; i < 20; ++i) {
    other.position = 100 + i;
    others.insert(sample(other, used)->token_id);
    EXPECT_EQ(sample(input, used)->token_id, token) << "scratch carries state";
  }
  other = input;
  for (other.seed = 100; other.seed < 120; ++other.seed) others.insert(choose(other));
  other = input;
  for (other.sample_idx = 100; other.sample_idx < 120; ++other.sample_idx) others.insert(choose(other));
  EXPECT_GT(others.size(), 50U);
}

TEST(Sampler, end_tokens_wait_for_min_tokens) {
  SamplingParams params;
  params.temperature = 0;
  params.min_tokens = 2;
  params.stop_token_ids = {4};
  const std::vector<float> logits{0, 1, 9, 2, 8};
  const std::vector<int32_t> eos{2};
  SampleInput input{.logits = logits, .params = &params, .eos_token_ids = eos};
  input.position = 1;
  EXPECT_EQ(choose(input), 3);
  input.position = 2;
  EXPECT_EQ(choose(input), 2);
}

TEST(Sampler, logprobs_are_the_log_softmax_of_the_model_s_logits) {
  SamplingParams params;
  params.temperature = 0.2F;
  params.top_k = 1;
  params.logit_bias = {{6, 50.0F}};
  params.top_logprobs = 5;
  const std::vector<float> logits = random_logits(1003, 21);
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit));
  SampleScratch scratch;
  const auto sampled = sample({.logits = logits, .params = &params}, scratch);
  ASSERT_TRUE(sampled);
  EXPECT_EQ(sampled->token_id, 6);
  EXPECT_NEAR(sampled->logprob, static_cast<double>(logits[6]) - std::log(total), 1e-5);
  ASSERT_EQ(sampled->top_logprobs.size(), 5U);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(sampled->top_logprobs[i].token_id, order[i]);
    EXPECT_NEAR(sampled->top_logprobs[i].logprob,
                static_cast<double>(logits[static_cast<size_t>(order[i])]) - std::log(total), 1e-5);
  }
  EXPECT_EQ(*score(logits, 6, 5), *sampled);
}

TEST(Sampler, rejects_logits_that_are_not_finite) {
  SamplingParams params;
  SampleScratch scratch;
  for (const float bad :
       {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    for (const size_t at : {0U, 16U, 36U}) {
      std::vector<float> logits(37, 0.5F);
      logits[at] = bad;
      for (const float temperature : {0.0F, 1.0F}) {
        params.temperature = temperature;
        const auto sampled = sample({.logits = logits, .params = &params}, scratch);
        ASSERT_FALSE(sampled);
        EXPECT_EQ(sampled.error().code, ErrorCode::kInvalidData);
        EXPECT_NE(sampled.error().message.find("token id " + std::to_string(at)), std::string::npos)
            << sampled.error().message;
      }
    }
  }
}

TEST(Sampler, says_when_no_token_is_left) {
  SamplingParams params;
  params.allowed_token_ids = {1};
  params.bad_token_ids = {1};
  SampleScratch scratch;
  const std::vector<float> logits(10, 0.0F);
  const auto sampled = sample({.logits = logits, .params = &params}, scratch);
  ASSERT_FALSE(sampled);
  EXPECT_EQ(sampled.error().code, ErrorCode::kInvalidArgument);
}

TEST(Sampler, survives_extreme_logits_and_parameters) {
  const float largest = std::numeric_limits<float>::max();
  SamplingParams params;
  TokenHistory history;
  history.add_prompt(std::vector<int32_t>{0, 1});
  SampleScratch scratch;
  for (const float repetition : {1e-30F, 1.0F, 1e30F}) {
    for (const float temperature : {0.0F, 1.1e-5F, 1.0F, 1e30F}) {
      params.repetition_penalty = repetition;
      params.temperature = temperature;
      const std::vector<float> logits{largest, -largest, 0.0F, 1e30F};
      const auto sampled = sample({.logits = logits, .params = &params, .history = &history}, scratch);
      ASSERT_TRUE(sampled) << sampled.error().message;
      EXPECT_TRUE(sampled->token_id >= 0 && sampled->token_id < 4);
    }
  }
}

TEST(LogitKernels, agree_with_double_precision) {
  for (const size_t count : {1U, 7U, 8U, 31U, 1000U}) {
    std::vector<float> values = random_logits(count, count);
    values[count / 2] = 20.0F;
    double exp_total = 0;
    double total = 0;
    for (const float value : values) {
      exp_total += std::exp(static_cast<double>(value) - 20.0);
      total += value;
    }
    EXPECT_EQ(argmax(values), count / 2);
    EXPECT_NEAR(exp_sum(values, 20.0F) / exp_total, 1.0, 1e-6);
    EXPECT_NEAR(sum(values), total, 1e-9 * static_cast<double>(count) * 20);
    std::vector<float> weights = values;
    weights[0] = count > 1 ? -std::numeric_limits<float>::infinity() : weights[0];
    to_weights(weights, 20.0F, 0.5F);
    EXPECT_EQ(weights[count / 2], 1.0F);
    if (count > 1) {
      EXPECT_EQ(weights[0], 0.0F);
      const double last = std::exp((static_cast<double>(values[count - 1]) - 20.0) * 0.5);
      EXPECT_NEAR(weights[count - 1] / last, 1.0, 1e-5);
    }
  }
}

}  // namespace
}  // namespace nemoforge::sampling
