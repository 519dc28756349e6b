// What goes into the engine and what comes out of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "engine/thinking.h"
#include "sampling/sampler.h"
#include "sampling/sampling_params.h"

namespace nemoforge::model {
class LoraAdapter;
}

namespace nemoforge::grammar {
class Grammar;
}

namespace nemoforge::engine {

using Clock = std::chrono::steady_clock;
using RequestId = uint64_t;

struct Request {
  std::vector<int32_t> prompt_token_ids;
  sampling::SamplingParams sampling;
  // Tokens of each completion; absent: as many as max_model_len leaves.
  std::optional<int32_t> max_tokens;
  int32_t n = 1;                  // completions
  uint32_t first_sample_idx = 0;  // completions are samples first_sample_idx .. + n - 1 of the seed: one of
                                  // them alone gives the same tokens as among the others
  int32_t priority = 0;           // smaller runs first; equal ones in the order of arrival
  std::shared_ptr<const model::LoraAdapter> adapter;  // null: the base model

  std::vector<std::string> stop;  // strings that end a completion
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;  // in the text
  bool keep_tag_tokens = false;     // but <think>, </think>, <tool_call> and </tool_call>

  std::optional<ThinkingBudget> thinking_budget;

  // What the completions follow, token for token, outside of their thoughts; null: nothing. A completion ends
  // only where the grammar may.
  std::shared_ptr<const grammar::Grammar> grammar;

  // With a value: the logprob of every token of the prompt but the first is reported, and of the so many most
  // probable ones in its place. The prompt is then computed in full, whatever the prefix cache has.
  std::optional<int32_t> prompt_top_logprobs;
};

enum class FinishReason {
  kStop,    // an end-of-sequence token, a stop token or a stop string
  kLength,  // max_tokens or max_model_len
  kAbort,   // cancelled
  kError,   // Finish::error says what
};

// "stop", "length", "abort", "error": the words of the API.
[[nodiscard]] const char* finish_reason_name(FinishReason reason);

// Of one completion.
struct Usage {
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;
  int32_t cached_tokens = 0;     // of the prompt, taken from the prefix cache
  int32_t reasoning_tokens = 0;  // of the completion, between <think> and </think>
};

struct Timings {
  Clock::time_point arrival;
  Clock::time_point scheduled;    // first step that worked on it
  Clock::time_point first_token;  // arrival where there is none
  Clock::time_point last_token;
};

struct Finish {
  FinishReason reason = FinishReason::kStop;
  // What ended it where that is not an end-of-sequence token: a stop token's id or a stop string.
  std::variant<std::monostate, int32_t, std::string> stop_reason;
  std::optional<Error> error;
  Usage usage;
  Timings timings;
  uint64_t seed = 0;  // that the completion was drawn with: the request's, or the one the engine drew for it
};

// The next part of one completion.
struct RequestOutput {
  RequestId request_id = 0;
  uint32_t completion_idx = 0;                          // 0 .. n - 1
  std::vector<sampling::SampledToken> tokens;           // with logprobs where asked for
  std::vector<bool> is_reasoning;                       // of each token
  std::vector<sampling::SampledToken> prompt_logprobs;  // with the first part of completion 0
  // What the tokens so far add to the text. It may lag behind the tokens, by the bytes of an unfinished code
  // point or a possible stop string.
  std::string text;
  std::optional<Finish> finish;   // with the completion's last part
  Clock::time_point chosen;       // when the last one of the tokens was; arrival where there is none yet
  bool request_finished = false;  // with the last part of the last completion
};

// Takes a request's outputs, from a thread of the engine's, one at a time, in order. Must not block for long
// nor throw, and may call any function of the engine's but drain() and stop().
using OutputSink = std::function<void(RequestOutput&&)>;

}  // namespace nemoforge::engine
