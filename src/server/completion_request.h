// A request for completions: from the body of POST /v1/chat/completions or /v1/completions to what the engine
// takes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/request.h"
#include "grammar/grammar.h"
#include "io/json.h"
#include "server/model_registry.h"
#include "server/parameters.h"
#include "text/chat_template.h"
#include "text/reasoning.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tool_argument.h"

namespace nemoforge::server {

// What requests are made against. Everything outlives the server.
struct ServedModel {
  const text::Tokenizer* tokenizer = nullptr;
  const text::ChatTemplate* chat_template = nullptr;  // null: the checkpoint has none
  ModelRegistry* registry = nullptr;
  int64_t max_model_len = 0;
};

struct CompletionRequest {
  Endpoint endpoint = Endpoint::kChat;
  Parameters parameters;
  std::string model;  // as answers name it
  AdapterPtr adapter;
  std::vector<std::vector<int32_t>> prompts;  // one of a chat
  text::ReasoningStart reasoning_start = text::ReasoningStart::kContent;
  std::shared_ptr<const text::ToolSchemas> tools;  // null: what looks like a tool call is content

  std::shared_ptr<const grammar::Grammar> grammar;  // of the answer, outside of thoughts; null: any text

  // Completions of all prompts.
  [[nodiscard]] int64_t num_choices() const { return static_cast<int64_t>(prompts.size()) * parameters.n; }
  // max_tokens 0 (with echo): only the prompt is wanted.
  [[nodiscard]] bool drops_completion() const { return parameters.max_tokens == 0; }
  [[nodiscard]] engine::Request engine_request(size_t prompt_idx) const;
};

// The JSON object of a body, within limits.
[[nodiscard]] Result<io::Json> parse_body(std::string_view body);

[[nodiscard]] Result<CompletionRequest> read_completion_request(const io::Json& body, Endpoint endpoint,
                                                                const ServedModel& served);

// The prompt's text of a chat, with thinking switched by reasoning_effort. Errors begin with the parameter's
// name.
[[nodiscard]] Result<std::string> render_chat(const io::Json& body, const Parameters& parameters,
                                              const ServedModel& served);

// The thought's budget in tokens: the explicit one, else reasoning_effort's (minimal 512, low 2048, medium
// 8192), else none.
[[nodiscard]] std::optional<int32_t> thinking_budget(const Parameters& parameters);

}  // namespace nemoforge::server
