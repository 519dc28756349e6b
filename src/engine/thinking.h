// Where a sequence is between <think> and </think>, and when its thought has to end.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace nemoforge::engine {

// The token ids that shape a completion; resolved once a tokenizer.
struct ThinkingTokens {
  int32_t think_start = -1;      // <think>
  int32_t think_end = -1;        // </think>
  int32_t tool_call_start = -1;  // <tool_call>; -1 where the vocabulary has none
  int32_t tool_call_end = -1;    // </tool_call>
  std::vector<bool> newline;     // by token id: its text holds a line feed

  // Nothing where the vocabulary lacks <think> or </think>.
  [[nodiscard]] static std::shared_ptr<const ThinkingTokens> resolve(const text::Tokenizer& tokenizer);

  [[nodiscard]] bool has_newline(int32_t token_id) const {
    return token_id >= 0 && static_cast<size_t>(token_id) < newline.size() &&
           newline[static_cast<size_t>(token_id)];
  }
};

// How long a thought may be, in tokens after <think>.
struct ThinkingBudget {
  int32_t max_tokens = 0;
  // Tokens beyond max_tokens within which the end waits for a line to end (500: what NVIDIA's NIM gives).
  int32_t grace_tokens = 500;
};

// Follows one sequence token by token. Tokens between <think> and </think>, both excluded, count as
// reasoning.
class ThinkingState {
 public:
  // Without `tokens` nothing is ever a thought. The prompt is in a thought where its last <think> has no
  // </think> after it.
  ThinkingState(std::shared_ptr<const ThinkingTokens> tokens, std::optional<ThinkingBudget> budget,
                std::span<const int32_t> prompt);

  // Takes the next token of the completion; whether it counts as reasoning.
  bool push(int32_t token_id);

  // </think>, where the budget says that the thought ends now: at the budget itself if the thought has not
  // begun or a line has just ended, else after the next token with a line feed, at the latest grace_tokens
  // later. Within <tool_call> never: there the first token after </tool_call> is meant.
  [[nodiscard]] std::optional<int32_t> forced_token() const;

  [[nodiscard]] bool in_thought() const { return in_thought_; }

 private:
  void advance(int32_t token_id);

  std::shared_ptr<const ThinkingTokens> tokens_;
  std::optional<ThinkingBudget> budget_;
  bool in_thought_ = false;
  bool in_tool_call_ = false;
  bool line_ended_ = false;  // the last token had a line feed
  int64_t num_tokens_ = 0;   // of the completion's thoughts together
};

}  // namespace nemoforge::engine
