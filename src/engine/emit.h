// What a chosen token does to its sequence.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/sequence.h"

namespace nemoforge::engine {

struct Emission {
  sampling::SampledToken token;
  bool is_reasoning = false;
  std::vector<sampling::SampledToken> prompt_logprobs;  // with the first token of a scored prompt
  std::optional<FinishReason> finish;
  bool is_eos = false;         // ended the completion as an end-of-sequence token
  bool is_stop_token = false;  // ended it as one of the request's stop tokens
};

// Appends the token to the sequence and decides whether it ends the completion. End-of-sequence and stop
// tokens end it once min_tokens are there; then max_len does.
[[nodiscard]] Emission emit(Sequence& sequence, sampling::SampledToken token,
                            std::span<const int32_t> eos_token_ids);

}  // namespace nemoforge::engine
