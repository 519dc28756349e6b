#include "engine/thinking.h"

#include <utility>

namespace nemoforge::engine {

std::shared_ptr<const ThinkingTokens> ThinkingTokens::resolve(const text::Tokenizer& tokenizer) {
  const auto start = tokenizer.token_to_id("<think>");
  const auto end = tokenizer.token_to_id("</think>");
  if (!start || !end) return nullptr;
  auto tokens = std::make_shared<ThinkingTokens>();
  tokens->think_start = *start;
  tokens->think_end = *end;
  tokens->tool_call_start = tokenizer.token_to_id("<tool_call>").value_or(-1);
  tokens->tool_call_end = tokenizer.token_to_id("</tool_call>").value_or(-1);
  tokens->newline.resize(static_cast<size_t>(tokenizer.vocab_size()));
  for (size_t id = 0; id < tokens->newline.size(); ++id) {
    tokens->newline[id] =
        tokenizer.token_bytes(static_cast<int64_t>(id)).find('\n') != std::string_view::npos;
  }
  return tokens;
}

ThinkingState::ThinkingState(std::shared_ptr<const ThinkingTokens> tokens,
                             std::optional<ThinkingBudget> budget, std::span<const int32_t> prompt)
    : tokens_(std::move(tokens)), budget_(budget) {
  if (!tokens_) return;
  for (const int32_t id : prompt) advance(id);
  // A tool call or a count that the prompt began is none of the completion's.
  in_tool_call_ = false;
  num_tokens_ = 0;
}

bool ThinkingState::push(int32_t token_id) {
  if (!tokens_) return false;
  const bool was_in_thought = in_thought_;
  advance(token_id);
  return was_in_thought && in_thought_ && token_id != tokens_->think_start;
}

void ThinkingState::advance(int32_t token_id) {
  line_ended_ = tokens_->has_newline(token_id);
  if (token_id == tokens_->think_start) {
    in_thought_ = true;
    return;
  }
  if (token_id == tokens_->think_end) {
    in_thought_ = false;
    in_tool_call_ = false;
    return;
  }
  if (token_id == tokens_->tool_call_start) in_tool_call_ = true;
  if (token_id == tokens_->tool_call_end) in_tool_call_ = false;
  if (in_thought_) ++num_tokens_;
}

std::optional<int32_t> ThinkingState::forced_token() const {
  if (!budget_ || !in_thought_ || in_tool_call_ || num_tokens_ < budget_->max_tokens) return std::nullopt;
  const bool at_latest = num_tokens_ >= int64_t{budget_->max_tokens} + budget_->grace_tokens;
  if (num_tokens_ == 0 || line_ended_ || at_latest) return tokens_->think_end;
  return std::nullopt;
}

}  // namespace nemoforge::engine
