#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/reference_backend.h"

namespace nemoforge::ops {
namespace {

using Logits = std::vector<double>;

Logits changed_logits(const float* logits, size_t vocab_size, const TokenChoiceRow& row) {
  Logits result(logits, logits + vocab_size);
  for (size_t id = 0; id < vocab_size && !row.token_mask.empty(); ++id) {
    if ((row.token_mask[id / 32] >> (id % 32) & 1U) == 0)
      result[id] = -std::numeric_limits<double>::infinity();
  }
  for (const LogitChange& change : row.changes) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    double& logit = result[static_cast<size_t>(change.token_id)];
    logit += change.bias;
    if (std::isinf(logit)) continue;
    logit = logit > 0 ? logit / change.repetition : logit * change.repetition;
    logit = std::clamp(logit - change.penalty, -kLargest, kLargest);
  }
  return result;
}

// Ids from the most probable on, of equals the lower first.
std::vector<int32_t> ranked(const Logits& values) {
  std::vector<int32_t> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  return ids;
}

double mass_of(const Logits& weights, std::span<const int32_t> ids) {
  double mass = 0;
  for (const int32_t id : ids) mass += weights[static_cast<size_t>(id)];
  return mass;
}

int32_t draw(const Logits& logits, const TokenChoiceRow& row) {
  std::vector<int32_t> ids = ranked(logits);
  const double max = logits[static_cast<size_t>(ids[0])];
  if (row.inverse_temperature == 0) return ids[0];
  Logits weights;
  for (const double logit : logits) weights.push_back(std::exp((logit - max) * row.inverse_temperature));
  std::erase_if(ids, [&](int32_t id) { return weights[static_cast<size_t>(id)] < row.min_p; });
  if (row.top_k > 0) ids.resize(std::min(ids.size(), static_cast<size_t>(row.top_k)));
  const double wanted = static_cast<double>(row.top_p) * mass_of(weights, ids);
  size_t kept = 1;
  while (row.top_p < 1 && kept < ids.size() && mass_of(weights, std::span(ids).first(kept)) < wanted) ++kept;
  if (row.top_p < 1) ids.resize(kept);
  std::sort(ids.begin(), ids.end());
  const double target = row.uniform * mass_of(weights, ids);
  double cumulative = 0;
  for (const int32_t id : ids) {
    cumulative += weights[static_cast<size_t>(id)];
    if (cumulative > target) return id;
  }
  return ids.back();
}

void score(const Logits& logits, int32_t num_top, ChosenToken& token) {
  const std::vector<int32_t> ids = ranked(logits);
  const double max = logits[static_cast<size_t>(ids[0])];
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - max);
  const auto logprob = [&](int32_t id) {
    return static_cast<float>(logits[static_cast<size_t>(id)] - max - std::log(sum));
  };
  token.logprob = logprob(token.token_id);
  const size_t num_listed = std::min(ids.size(), static_cast<size_t>(num_top));
  for (const int32_t id : std::span(ids).first(num_listed)) token.top_logprobs.emplace_back(id, logprob(id));
}

ChosenToken choose(const float* logits, size_t vocab_size, const TokenChoiceRow& row) {
  ChosenToken token;
  if (!std::all_of(logits, logits + vocab_size, [](float logit) { return std::isfinite(logit); })) {
    token.status = TokenChoiceStatus::kNotFinite;
    return token;
  }
  const Logits changed = changed_logits(logits, vocab_size, row);
  if (std::all_of(changed.begin(), changed.end(), [](double logit) { return std::isinf(logit); })) {
    token.status = TokenChoiceStatus::kNoToken;
    return token;
  }
  token.token_id = draw(changed, row);
  if (row.num_top_logprobs >= 0) score(Logits(logits, logits + vocab_size), row.num_top_logprobs, token);
  return token;
}

}  // namespace

void ReferenceBackend::choose_tokens(const TokenChoiceArgs& args) {
  check(args);
  const int64_t vocab_size = args.logits.size(1);
  for (size_t i = 0; i < args.rows.size(); ++i) {
    args.out[i] = choose(args.logits.data<float>() + static_cast<int64_t>(i) * vocab_size,
                         static_cast<size_t>(vocab_size), args.rows[i]);
  }
}

}  // namespace nemoforge::ops
