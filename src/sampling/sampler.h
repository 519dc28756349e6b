// The choice of a token from the logits of a position.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "sampling/sampling_params.h"
#include "sampling/token_history.h"

namespace nemoforge::sampling {

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;
  friend bool operator==(const TokenLogprob&, const TokenLogprob&) = default;
};

// The inputs of one choice. Spans and pointers need live only through the call.
struct SampleInput {
  std::span<const float> logits = {};           // [vocab]
  const SamplingParams* params = nullptr;       // validated
  const TokenHistory* history = nullptr;        // required where params->has_penalties()
  std::span<const int32_t> eos_token_ids = {};  // not chosen while position < params->min_tokens
  // One bit a token, the lowest bit of the first word is token 0; a clear bit forbids. Empty: all allowed.
  // Bits are there for every token of the vocabulary. (How a grammar restricts its request.)
  std::span<const uint32_t> token_mask = {};
  // The draw is a pure function of these three.
  uint64_t seed = 0;
  uint32_t sample_idx = 0;  // which of the n samples of the request
  uint32_t position = 0;    // completion tokens before this one
};

struct SampledToken {
  int32_t token_id = 0;
  float logprob = 0;                       // where params->top_logprobs has a value
  std::vector<TokenLogprob> top_logprobs;  // params->top_logprobs entries, most probable first

  friend bool operator==(const SampledToken&, const SampledToken&) = default;
};

// Memory that sample() reuses from call to call; one for every thread that samples.
struct SampleScratch {
  struct Candidate {
    float weight;  // probability relative to the most probable token, in (0, 1]
    int32_t token_id;
  };
  std::vector<float> logits;
  std::vector<Candidate> candidates;
};

// Applies, in vLLM's order: token_mask, allowed_token_ids, bad_token_ids, min_tokens, logit_bias, the
// repetition, frequency and presence penalties, temperature, min_p, top_k, top_p; then draws one token by
// inversion of the cumulative distribution with one uniform number. Equally probable tokens rank by id, the
// lower first: greedy takes the lowest, top_k keeps exactly k, top_p cuts between them.
//
// Logprobs are the log-softmax of the logits as the model gave them, before every step above (vLLM's
// `raw_logprobs`). Weights are fp32, sums fp64.
//
// kInvalidData for logits that are not finite; kInvalidArgument where no token remains allowed.
[[nodiscard]] Result<SampledToken> sample(const SampleInput& input, SampleScratch& scratch);

// The logprob of `token_id` and, most probable first, of the `num_top` most probable tokens: what sample()
// reports, for a token that was not chosen by it (a forced one, a prompt's). kInvalidData for logits that are
// not finite.
[[nodiscard]] Result<SampledToken> score(std::span<const float> logits, int32_t token_id, int32_t num_top);

}  // namespace nemoforge::sampling
