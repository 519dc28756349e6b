// The choice of a token from each of several rows of logits, where the logits are: what src/sampling does on
// the host, for a device whose rows would be long to download.
//
// A row's logits are changed (mask, changes), then a token is drawn: weights exp((logit - max) *
// inverse_temperature) of the tokens that min_p, top_k and top_p leave, in order of id, inverted at
// `uniform`. The meaning of each and the order in which they apply are those of sampling::sample
// (sampling/sampler.h).
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// What happens to the logit of one token: bias is added; then, unless the token is forbidden, a positive
// logit is divided and a negative one multiplied by repetition, `penalty` is subtracted, and the result is
// clamped to finite numbers.
struct LogitChange {
  int32_t token_id = 0;
  float bias = 0;  // -infinity forbids the token
  float repetition = 1;
  float penalty = 0;
};

struct TokenChoiceRow {
  float inverse_temperature = 0;     // 0: the most probable token, the lowest id of several
  float top_p = 1;                   // (0, 1]
  float min_p = 0;                   // [0, 1]
  int32_t top_k = 0;                 // 0: all
  double uniform = 0;                // [0, 1): of the draw
  std::vector<LogitChange> changes;  // each token at most once
  std::span<const uint32_t>
      token_mask;                 // bit of token t: word t / 32, bit t % 32; clear forbids. Empty: none
  int32_t num_top_logprobs = -1;  // -1: no logprobs
};

enum class TokenChoiceStatus : int32_t {
  kChosen = 0,
  kNotFinite = 1,  // a logit is NaN or infinite
  kNoToken = 2,    // every token is forbidden
  kUndecided = 3   // more tokens come into question than the kernel takes: the host has to choose
};

struct ChosenToken {
  TokenChoiceStatus status = TokenChoiceStatus::kChosen;
  int32_t token_id = 0;
  // Of the logits as they came: log-softmax; where num_top_logprobs >= 0.
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> top_logprobs;  // most probable first, of equals the lower id
};

// Most that num_top_logprobs may be.
inline constexpr int32_t kMaxTopLogprobs = 20;

struct TokenChoiceArgs {
  ConstTensorView logits;                // [num_rows, vocab_size] f32
  std::span<const TokenChoiceRow> rows;  // [num_rows]
  std::span<ChosenToken> out;            // [num_rows], of the host
};

// Throws InternalError unless shapes, dtypes, ids and ranges are as above.
void check(const TokenChoiceArgs& args);

}  // namespace nemoforge::ops
