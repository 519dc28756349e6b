// A request for completions under way: from the engine's outputs to the client's answer, whole or streamed.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "server/api_error.h"
#include "server/completion_request.h"
#include "server/http_exchange.h"
#include "server/wire.h"
#include "text/reasoning.h"
#include "text/tool_calls.h"

namespace nemoforge::server {

// What the log says of an answer.
struct CallSummary {
  int status = 200;
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
};

// Lives as long as the engine's sinks and the exchange hold it. Outputs come on the engine's output thread,
// which formats them: the step thread does not wait, and sockets are written elsewhere.
class CompletionCall : public std::enable_shared_from_this<CompletionCall> {
 public:
  // `on_end` is called once, when the answer is complete.
  CompletionCall(CompletionRequest request, const ServedModel& served, std::shared_ptr<Exchange> exchange,
                 HttpResponse head, std::function<void(const CallSummary&)> on_end);

  // Gives the prompts to the engine. Where it refuses one the others are cancelled and the answer is the
  // refusal. A client that goes away cancels all.
  void start(engine::Engine& engine);

 private:
  // One completion.
  struct Choice {
    Choice(size_t prompt, text::ReasoningStart start, const TokenNames& names)
        : prompt_idx(prompt), parser(start), logprobs(names) {}
    size_t prompt_idx;
    text::ReasoningParser parser;
    std::optional<text::ToolCallParser> tool_parser;
    text::ParsedAnswer answer;  // its calls, where the answer is whole
    std::vector<std::string> call_ids;
    bool ends_in_whole_call = false;  // its last call, if it has any, is complete
    CompletionLogprobs logprobs;
    std::vector<sampling::SampledToken> tokens;  // where logprobs are wanted and the answer is whole
    std::vector<int32_t> token_ids;              // where wanted
    std::vector<sampling::SampledToken> prompt_logprobs;
    std::string reasoning;
    std::string content;
    std::optional<engine::Finish> finish;
    bool has_begun = false;  // its first chunk was sent
  };
  struct Part {
    text::ReasoningDelta text;
    std::vector<text::ToolCallEvent> calls;  // without content
    std::vector<sampling::SampledToken> tokens;
    std::vector<int32_t> token_ids;
  };

  void take(size_t prompt_idx, engine::RequestOutput&& output);
  void parse_part(Choice& choice, Part& part, std::string text, bool is_last);
  void begin_choice(size_t choice_idx);
  void add_part(size_t choice_idx, Part&& part);
  void add_finish(size_t choice_idx);
  void add_chunk(std::string_view choices, bool with_usage);
  void send_events();
  void finish_stream();
  void finish_whole();
  void fail(const Error& error);
  void refuse(const ApiError& api_error);
  void end(int status);
  [[nodiscard]] io::Json call_delta(const Choice& choice, const text::ToolCallEvent& event) const;
  [[nodiscard]] const char* finish_reason(const Choice& choice) const;
  [[nodiscard]] io::Json chat_choice(size_t choice_idx);
  [[nodiscard]] io::Json completion_choice(size_t choice_idx);
  void echo_prompt(Choice& choice);
  [[nodiscard]] bool is_chat() const { return request_.endpoint == Endpoint::kChat; }
  [[nodiscard]] bool wants_logprobs() const { return request_.parameters.sampling.top_logprobs.has_value(); }
  [[nodiscard]] std::string envelope(const char* object) const;

  CompletionRequest request_;
  ServedModel served_;
  std::shared_ptr<Exchange> exchange_;
  HttpResponse head_;
  std::function<void(const CallSummary&)> on_end_;
  TokenNames names_;
  std::string id_;
  int64_t created_s_;
  std::string chunk_head_;  // the chunk's JSON up to "choices"
  std::string unsent_events_;
  std::vector<Choice> choices_;
  size_t num_unfinished_;
  UsageTotal usage_;
  std::mutex mutex_;  // the engine's end may meet start() in the middle
  bool has_failed_ = false;
  bool has_ended_ = false;
};

}  // namespace nemoforge::server
