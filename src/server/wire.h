// The JSON of answers: OpenAI's shapes with vLLM's additions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "io/json.h"
#include "sampling/sampler.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::server {

// How tokens are named in logprobs.
struct TokenNames {
  const text::Tokenizer* tokenizer = nullptr;
  bool as_ids = false;  // "token_id:12", for clients that must tell equal texts apart
  [[nodiscard]] std::string operator()(int32_t token_id) const;
};

// {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}
[[nodiscard]] io::Json chat_logprobs(std::span<const sampling::SampledToken> tokens, const TokenNames& names);

// The legacy form: parallel lists of tokens, their logprobs, the best ones and the offsets in the text.
class CompletionLogprobs {
 public:
  explicit CompletionLogprobs(TokenNames names) : names_(names) {}
  void add(const sampling::SampledToken& token);
  // The first token of an echoed prompt has no logprob.
  void add_unscored(int32_t token_id);
  // What was added since the last call.
  [[nodiscard]] io::Json take();

 private:
  struct Entry {
    std::string text;
    int64_t offset;  // in code points
    std::optional<float> logprob;
    std::vector<std::pair<std::string, float>> top;
  };
  Entry& append(int32_t token_id);

  TokenNames names_;
  int64_t offset_ = 0;  // of the next token
  std::vector<Entry> entries_;
};

// [null, {"<id>": {"logprob", "decoded_token"}, ...}, ...], one entry a token of the prompt.
[[nodiscard]] io::Json prompt_logprobs_json(std::span<const sampling::SampledToken> scores,
                                            const TokenNames& names);

// Tokens of a request's completions together.
class UsageTotal {
 public:
  void add_prompt(int64_t num_tokens) { prompt_tokens_ += num_tokens; }
  void add_completion_tokens(int64_t num_tokens) { completion_tokens_ += num_tokens; }
  void add_reasoning_tokens(int64_t num_tokens) { reasoning_tokens_ += num_tokens; }
  void add_cached(int64_t num_tokens) { cached_tokens_ += num_tokens; }
  [[nodiscard]] io::Json json() const;
  [[nodiscard]] int64_t prompt_tokens() const { return prompt_tokens_; }
  [[nodiscard]] int64_t completion_tokens() const { return completion_tokens_; }

 private:
  int64_t prompt_tokens_ = 0;
  int64_t completion_tokens_ = 0;
  int64_t reasoning_tokens_ = 0;
  int64_t cached_tokens_ = 0;
};

// A stop token's id, a stop string, or null.
[[nodiscard]] io::Json stop_reason_json(const engine::Finish& finish);

// An event of a server-sent stream: "data: " and the text, which has no line feeds, and an empty line.
[[nodiscard]] std::string sse_event(std::string_view data);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

// Random: 32 hexadecimal digits.
[[nodiscard]] std::string random_id();

}  // namespace nemoforge::server
