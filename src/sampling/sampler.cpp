#include "sampling/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/check.h"
#include "base/rng.h"
#include "sampling/logit_kernels.h"

namespace nemoforge::sampling {
namespace {

using Candidate = SampleScratch::Candidate;
constexpr float kForbidden = -std::numeric_limits<float>::infinity();

Status check_finite(std::span<const float> logits) {
  if (all_finite(logits)) return {};
  const auto at = std::find_if(logits.begin(), logits.end(), [](float x) { return !std::isfinite(x); });
  return error(ErrorCode::kInvalidData,
               fmt::format("the model's logits are not finite ({} at token id {})", *at, at - logits.begin()),
               "the weights are damaged or overflow in this dtype; --dtype fp32 tells which");
}

// Most probable first; the lower id first among equals.
bool more_probable(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token_id < b.token_id;
}

void apply_masks(const SampleInput& input, std::span<float> logits) {
  const SamplingParams& params = *input.params;
  if (!input.token_mask.empty()) {
    NF_CHECK(input.token_mask.size() * 32 >= logits.size()) << input.token_mask.size();
    for (size_t id = 0; id < logits.size(); ++id) {
      if ((input.token_mask[id / 32] >> (id % 32) & 1U) == 0) logits[id] = kForbidden;
    }
  }
  if (!params.allowed_token_ids.empty()) {
    std::vector<std::pair<int32_t, float>> kept;
    for (const int32_t id : params.allowed_token_ids) kept.emplace_back(id, logits[static_cast<size_t>(id)]);
    std::fill(logits.begin(), logits.end(), kForbidden);
    for (const auto& [id, logit] : kept) logits[static_cast<size_t>(id)] = logit;
  }
  for (const int32_t id : params.bad_token_ids) logits[static_cast<size_t>(id)] = kForbidden;
  if (std::cmp_less(input.position, params.min_tokens)) {
    for (const int32_t id : input.eos_token_ids) logits[static_cast<size_t>(id)] = kForbidden;
    for (const int32_t id : params.stop_token_ids) logits[static_cast<size_t>(id)] = kForbidden;
  }
}

void apply_penalties(const SampleInput& input, std::span<float> logits) {
  const SamplingParams& params = *input.params;
  NF_CHECK(input.history != nullptr);
  constexpr float kLargest = std::numeric_limits<float>::max();
  for (const auto& [id, entry] : input.history->entries()) {
    float& logit = logits[static_cast<size_t>(id)];
    if (logit == kForbidden) continue;
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    const auto count = static_cast<float>(entry.num_in_completion);
    logit -= params.frequency_penalty * count + (count > 0 ? params.presence_penalty : 0.0F);
    // An extreme repetition_penalty may overflow; the token then is merely certain, or all but impossible.
    logit = std::clamp(logit, -kLargest, kLargest);
  }
}

bool changes_logits(const SampleInput& input) {
  const SamplingParams& p = *input.params;
  return !input.token_mask.empty() || !p.allowed_token_ids.empty() || !p.bad_token_ids.empty() ||
         std::cmp_less(input.position, p.min_tokens) || !p.logit_bias.empty() || p.has_penalties();
}

// The smallest weight that a token of the `max_count` most probable ones, or of the smallest set of most
// probable ones whose mass reaches `mass`, can have, rounded down to a bucket's lower edge. Buckets are an
// eighth of a binary order of magnitude wide: the weight's exponent and its first three bits.
float weight_floor(std::span<const float> weights, size_t max_count, double mass) {
  constexpr int kShift = 20;
  constexpr size_t kNumBuckets = (std::bit_cast<uint32_t>(1.0F) >> kShift) + 1;
  std::array<size_t, kNumBuckets> counts{};
  std::array<double, kNumBuckets> masses{};
  for (const float weight : weights) {
    const size_t bucket = std::bit_cast<uint32_t>(weight) >> kShift;
    ++counts[bucket];
    masses[bucket] += weight;
  }
  size_t count = 0;
  double total = 0;
  for (size_t bucket = kNumBuckets; bucket-- > 0;) {
    count += counts[bucket];
    total += masses[bucket];
    if (count >= max_count || total >= mass) {
      return std::bit_cast<float>(static_cast<uint32_t>(bucket << kShift));
    }
  }
  return 0;
}

void gather(std::span<const float> weights, float min_weight, std::vector<Candidate>& out) {
  out.clear();
  for (size_t id = 0; id < weights.size(); ++id) {
    if (weights[id] >= min_weight && weights[id] > 0) {
      out.push_back({weights[id], static_cast<int32_t>(id)});
    }
  }
}

// Keeps the smallest prefix of the sorted candidates whose mass reaches top_p of `total`.
void cut_mass(std::vector<Candidate>& candidates, double total, double top_p) {
  std::sort(candidates.begin(), candidates.end(), more_probable);
  double mass = 0;
  size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || mass < top_p * total)) mass += candidates[kept++].weight;
  candidates.resize(kept);
}

// Gathers into `candidates` what min_p, top_k and top_p leave of the weights (largest 1).
void filter(const SamplingParams& params, std::span<const float> weights,
            std::vector<Candidate>& candidates) {
  const bool limits_count = params.top_k > 0 && std::cmp_less(params.top_k, weights.size());
  const bool limits_mass = params.top_p < 1.0F;
  constexpr double kAnyMass = std::numeric_limits<double>::infinity();
  float min_weight = params.min_p;
  if (limits_count) {
    min_weight = std::max(min_weight, weight_floor(weights, static_cast<size_t>(params.top_k), kAnyMass));
  } else if (limits_mass && params.min_p == 0) {
    // The margin keeps the order of summation from cutting a token short.
    const double mass = sum(weights) * static_cast<double>(params.top_p) * (1 + 1e-9);
    min_weight = weight_floor(weights, weights.size(), mass);
  }
  gather(weights, min_weight, candidates);
  if (limits_count && std::cmp_less(params.top_k, candidates.size())) {
    std::nth_element(candidates.begin(), candidates.begin() + params.top_k, candidates.end(), more_probable);
    candidates.resize(static_cast<size_t>(params.top_k));
  }
  if (limits_mass) {
    double total = 0;
    if (!limits_count && params.min_p == 0) {
      total = sum(weights);
    } else {
      for (const Candidate& candidate : candidates) total += candidate.weight;
    }
    cut_mass(candidates, total, static_cast<double>(params.top_p));
  }
  // One order for the draw, whatever the path that led here.
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.token_id < b.token_id; });
}

int32_t draw_candidate(std::span<const Candidate> candidates, double uniform) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  const double target = uniform * total;
  double cumulative = 0;
  for (const Candidate& candidate : candidates) {
    cumulative += candidate.weight;
    if (cumulative > target) return candidate.token_id;
  }
  return candidates.back().token_id;
}

// The same over all tokens: first the block in which the cumulative weight passes the target, then the token.
int32_t draw_token(std::span<const float> weights, double uniform) {
  constexpr size_t kBlock = 1024;
  const double target = uniform * sum(weights);
  double cumulative = 0;
  size_t last_possible = 0;
  for (size_t begin = 0; begin < weights.size(); begin += kBlock) {
    const auto block = weights.subspan(begin, std::min(kBlock, weights.size() - begin));
    const double mass = sum(block);
    if (cumulative + mass <= target) {
      cumulative += mass;
      if (mass > 0) last_possible = begin;
      continue;
    }
    for (size_t i = 0; i < block.size(); ++i) {
      cumulative += block[i];
      if (block[i] > 0) last_possible = begin + i;
      if (cumulative > target && block[i] > 0) return static_cast<int32_t>(begin + i);
    }
    return static_cast<int32_t>(last_possible);  // the sums of the block differ in their last bits
  }
  while (weights[last_possible] == 0) ++last_possible;
  return static_cast<int32_t>(last_possible);
}

Result<int32_t> choose(const SampleInput& input, SampleScratch& scratch) {
  const SamplingParams& params = *input.params;
  std::span<const float> logits = input.logits;
  const bool changes = changes_logits(input);
  if (changes || !params.is_greedy()) {
    scratch.logits.assign(logits.begin(), logits.end());
    logits = scratch.logits;
  }
  const std::span<float> adjusted(scratch.logits);
  if (changes) {
    apply_masks(input, adjusted);
    for (const auto& [id, bias] : params.logit_bias) adjusted[static_cast<size_t>(id)] += bias;
    if (params.has_penalties()) apply_penalties(input, adjusted);
  }
  const size_t best = argmax(logits);
  if (logits[best] == kForbidden) {
    return error(ErrorCode::kInvalidArgument, "the request's constraints leave no token to choose from");
  }
  if (params.is_greedy()) return static_cast<int32_t>(best);

  to_weights(adjusted, logits[best], 1.0F / params.temperature);
  const uint64_t stream = (static_cast<uint64_t>(input.sample_idx) << 32) | input.position;
  const double uniform = Rng(input.seed, stream).uniform();
  if (params.min_p == 0 && params.top_k <= 0 && params.top_p >= 1.0F) return draw_token(adjusted, uniform);
  filter(params, adjusted, scratch.candidates);
  return draw_candidate(scratch.candidates, uniform);
}

// The n largest logits, largest first.
std::vector<TokenLogprob> top_logits(std::span<const float> logits, size_t n) {
  const auto before = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token_id < b.token_id;
  };
  std::vector<TokenLogprob> top;  // a heap whose front is the smallest
  if (n == 0) return top;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (top.size() == n) {
      if (logits[id] <= top.front().logprob) continue;
      std::pop_heap(top.begin(), top.end(), before);
      top.pop_back();
    }
    top.push_back({static_cast<int32_t>(id), logits[id]});
    std::push_heap(top.begin(), top.end(), before);
  }
  std::sort_heap(top.begin(), top.end(), before);
  return top;
}

SampledToken score_finite(std::span<const float> logits, int32_t token_id, int32_t num_top) {
  const float max = logits[argmax(logits)];
  const double log_sum = static_cast<double>(max) + std::log(exp_sum(logits, max));
  const auto logprob = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - log_sum); };
  SampledToken scored{token_id, logprob(logits[static_cast<size_t>(token_id)]),
                      top_logits(logits, static_cast<size_t>(num_top))};
  for (TokenLogprob& entry : scored.top_logprobs) entry.logprob = logprob(entry.logprob);
  return scored;
}

}  // namespace

Result<SampledToken> sample(const SampleInput& input, SampleScratch& scratch) {
  NF_CHECK(input.params != nullptr && !input.logits.empty());
  NF_RETURN_IF_ERROR(check_finite(input.logits));
  NF_TRY(const int32_t token_id, choose(input, scratch));
  if (!input.params->top_logprobs) return SampledToken{token_id, 0, {}};
  return score_finite(input.logits, token_id, *input.params->top_logprobs);
}

Result<SampledToken> score(std::span<const float> logits, int32_t token_id, int32_t num_top) {
  NF_CHECK(!logits.empty() && token_id >= 0 && std::cmp_less(token_id, logits.size())) << token_id;
  NF_RETURN_IF_ERROR(check_finite(logits));
  return score_finite(logits, token_id, num_top);
}

}  // namespace nemoforge::sampling
