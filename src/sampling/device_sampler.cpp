#include "sampling/device_sampler.h"

#include <limits>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/rng.h"

namespace nemoforge::sampling {
namespace {

static_assert(kMaxTopLogprobs == ops::kMaxTopLogprobs);
constexpr float kForbidden = -std::numeric_limits<float>::infinity();

// The changes of a row's logits by token, in the order in which sample() makes them.
class Changes {
 public:
  void forbid(std::span<const int32_t> ids) {
    for (const int32_t id : ids) at(id).bias = kForbidden;
  }
  void add_bias(std::span<const std::pair<int32_t, float>> biases) {
    for (const auto& [id, bias] : biases) at(id).bias += bias;
  }
  void add_penalties(const SamplingParams& params, const TokenHistory& history) {
    for (const auto& [id, entry] : history.entries()) {
      const auto count = static_cast<float>(entry.num_in_completion);
      ops::LogitChange& change = at(id);
      change.repetition = params.repetition_penalty;
      change.penalty = params.frequency_penalty * count + (count > 0 ? params.presence_penalty : 0.0F);
    }
  }
  [[nodiscard]] std::vector<ops::LogitChange> take() { return std::move(changes_); }

 private:
  ops::LogitChange& at(int32_t id) {
    const auto [place, is_new] = places_.try_emplace(id, changes_.size());
    if (is_new) changes_.push_back({.token_id = id});
    return changes_[place->second];
  }

  std::vector<ops::LogitChange> changes_;
  std::unordered_map<int32_t, size_t> places_;
};

// The tokens that the request's list and its grammar both allow; empty: all.
std::span<const uint32_t> mask_of(const SampleInput& input, int64_t vocab_size, std::vector<uint32_t>& mask) {
  const SamplingParams& params = *input.params;
  if (params.allowed_token_ids.empty()) return input.token_mask;
  mask.assign(static_cast<size_t>(vocab_size + 31) / 32, 0);
  for (const int32_t token_id : params.allowed_token_ids) {
    const auto id = static_cast<size_t>(token_id);
    const bool allowed = input.token_mask.empty() || (input.token_mask[id / 32] >> (id % 32) & 1U) != 0;
    if (allowed) mask[id / 32] |= 1U << (id % 32);
  }
  return mask;
}

}  // namespace

ops::TokenChoiceRow to_choice_row(const SampleInput& input, int64_t vocab_size, std::vector<uint32_t>& mask) {
  NF_CHECK(input.params != nullptr);
  const SamplingParams& params = *input.params;
  Changes changes;
  changes.forbid(params.bad_token_ids);
  if (std::cmp_less(input.position, params.min_tokens)) {
    changes.forbid(input.eos_token_ids);
    changes.forbid(params.stop_token_ids);
  }
  changes.add_bias(params.logit_bias);
  if (params.has_penalties()) {
    NF_CHECK(input.history != nullptr);
    changes.add_penalties(params, *input.history);
  }
  ops::TokenChoiceRow row;
  row.changes = changes.take();
  row.token_mask = mask_of(input, vocab_size, mask);
  row.num_top_logprobs = params.top_logprobs.value_or(-1);
  if (params.is_greedy()) return row;
  row.inverse_temperature = 1.0F / params.temperature;
  row.top_p = params.top_p;
  row.min_p = params.min_p;
  row.top_k = std::max(params.top_k, 0);
  const uint64_t stream = (static_cast<uint64_t>(input.sample_idx) << 32) | input.position;
  row.uniform = Rng(input.seed, stream).uniform();
  return row;
}

Result<SampledToken> from_choice(const ops::ChosenToken& chosen) {
  switch (chosen.status) {
    case ops::TokenChoiceStatus::kChosen:
      break;
    case ops::TokenChoiceStatus::kNotFinite:
      return error(ErrorCode::kInvalidData, "the model's logits are not finite",
                   "the weights are damaged or overflow in this dtype; --dtype fp32 tells which");
    case ops::TokenChoiceStatus::kNoToken:
      return error(ErrorCode::kInvalidArgument, "the request's constraints leave no token to choose from");
    case ops::TokenChoiceStatus::kUndecided:
      NF_CHECK(false) << "the host had to choose";
  }
  SampledToken token{chosen.token_id, chosen.logprob, {}};
  for (const auto& [id, logprob] : chosen.top_logprobs) token.top_logprobs.push_back({id, logprob});
  return token;
}

}  // namespace nemoforge::sampling
