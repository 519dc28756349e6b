// What a request may ask of the choice of its tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"

namespace nemoforge::sampling {

// Defaults, names and ranges are those of the OpenAI API and of vLLM's SamplingParams. The fields apply in
// the order of sample() (sampler.h).
struct SamplingParams {
  float temperature = 1.0F;  // >= 0; below kGreedyTemperature the most probable token is taken
  float top_p = 1.0F;        // (0, 1]: the smallest set of most probable tokens whose mass reaches it
  int32_t top_k = 0;         // the k most probable tokens; 0 and -1: all
  float min_p = 0.0F;        // [0, 1]: tokens at least min_p times as probable as the most probable one

  float repetition_penalty = 1.0F;  // > 0: divides positive and multiplies negative logits of tokens of the
                                    // prompt and the completion
  float presence_penalty = 0.0F;    // [-2, 2]: subtracted once from tokens of the completion
  float frequency_penalty = 0.0F;   // [-2, 2]: subtracted once for every occurrence in the completion

  std::optional<uint64_t> seed;  // absent: the engine draws one a request

  std::vector<std::pair<int32_t, float>> logit_bias;  // (token id, [-100, 100]): added to its logit
  std::vector<int32_t> allowed_token_ids;             // not empty: no other token is chosen
  std::vector<int32_t> bad_token_ids;                 // never chosen

  // With a value: the logprob of every chosen token is reported, and of the so many most probable ones.
  std::optional<int32_t> top_logprobs;

  int32_t min_tokens = 0;               // end-of-sequence and stop tokens are not chosen before
  std::vector<int32_t> stop_token_ids;  // end the completion like an end-of-sequence token
  bool ignore_eos = false;              // end-of-sequence tokens do not end the completion

  // Whether a token's history changes its logit.
  [[nodiscard]] bool has_penalties() const {
    return repetition_penalty != 1.0F || presence_penalty != 0.0F || frequency_penalty != 0.0F;
  }
  [[nodiscard]] bool is_greedy() const;
};

// Temperatures under this are greedy: the quotient by them would overflow.
inline constexpr float kGreedyTemperature = 1e-5F;
// Most of top_logprobs: OpenAI's limit.
inline constexpr int32_t kMaxTopLogprobs = 20;

// kInvalidArgument, beginning with the name of the parameter at fault, for a value outside its range or a
// token id outside [0, vocab_size).
[[nodiscard]] Status validate(const SamplingParams& params, int64_t vocab_size);

}  // namespace nemoforge::sampling
