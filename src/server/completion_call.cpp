#include "server/completion_call.h"

#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/unix_time.h"

namespace nemoforge::server {
namespace {

constexpr const char* kFingerprint = "nemoforge";

io::Json text_or_null(const std::string& text) {
  return text.empty() ? io::Json(nullptr) : io::Json(text);
}

std::string json_string(const std::string& text) {
  return io::dump_json(io::Json(text));
}

// Cancels a call's requests, those that the engine has and those that it is about to get.
struct Cancellation {
  explicit Cancellation(engine::Engine& of) : engine(of) {}
  void add(engine::RequestId id) {
    const std::lock_guard lock(mutex);
    if (is_cancelled) return engine.cancel(id);
    ids.push_back(id);
  }
  void cancel() {
    const std::lock_guard lock(mutex);
    is_cancelled = true;
    for (const engine::RequestId id : std::exchange(ids, {})) engine.cancel(id);
  }
  engine::Engine& engine;
  std::mutex mutex;
  bool is_cancelled = false;
  std::vector<engine::RequestId> ids;
};

}  // namespace

CompletionCall::CompletionCall(CompletionRequest request, const ServedModel& served,
                               std::shared_ptr<Exchange> exchange, HttpResponse head,
                               std::function<void(const CallSummary&)> on_end)
    : request_(std::move(request)),
      served_(served),
      exchange_(std::move(exchange)),
      head_(std::move(head)),
      on_end_(std::move(on_end)),
      names_{served.tokenizer, request_.parameters.return_tokens_as_token_ids},
      id_((is_chat() ? "chatcmpl-" : "cmpl-") + random_id()),
      created_s_(unix_time_s()),
      num_unfinished_(static_cast<size_t>(request_.num_choices())) {
  for (size_t i = 0; i < num_unfinished_; ++i) {
    choices_.emplace_back(i / static_cast<size_t>(request_.parameters.n), request_.reasoning_start, names_);
    if (request_.tools) choices_.back().tool_parser.emplace(request_.tools);
  }
  for (const auto& prompt : request_.prompts) usage_.add_prompt(static_cast<int64_t>(prompt.size()));
  chunk_head_ = envelope(is_chat() ? "chat.completion.chunk" : "text_completion");
}

// The opening of an answer's or chunk's object.
std::string CompletionCall::envelope(const char* object) const {
  std::string json = io::dump_json({{"id", id_},
                                    {"object", object},
                                    {"created", created_s_},
                                    {"model", request_.model},
                                    {"system_fingerprint", kFingerprint}});
  json.back() = ',';
  return json;
}

void CompletionCall::start(engine::Engine& engine) {
  const auto cancellation = std::make_shared<Cancellation>(engine);
  exchange_->on_disconnect([cancellation] { cancellation->cancel(); });
  std::vector<engine::Request> requests;
  for (size_t i = 0; i < request_.prompts.size(); ++i) requests.push_back(request_.engine_request(i));
  // All are checked before the first one runs, so that a refusal is an answer of its own, not the middle of
  // a stream.
  for (const engine::Request& request : requests) {
    if (const Status valid = engine.validate(request); !valid) {
      has_failed_ = true;
      return refuse(to_api_error(valid.error()));
    }
  }
  if (request_.parameters.stream) {
    head_.content_type = "text/event-stream; charset=utf-8";
    head_.headers.emplace_back("Cache-Control", "no-cache");
    exchange_->begin_stream(head_);
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    auto id = engine.add_request(
        std::move(requests[i]),
        [self = shared_from_this(), i](engine::RequestOutput&& output) { self->take(i, std::move(output)); });
    if (!id) {
      cancellation->cancel();
      const std::lock_guard lock(mutex_);
      return fail(id.error());
    }
    cancellation->add(*id);
  }
}

void CompletionCall::take(size_t prompt_idx, engine::RequestOutput&& output) {
  const std::lock_guard lock(mutex_);
  if (has_ended_) return;
  exchange_->note_output(output);
  const size_t choice_idx = prompt_idx * static_cast<size_t>(request_.parameters.n) + output.completion_idx;
  Choice& choice = choices_[choice_idx];
  if (output.finish && output.finish->error) return fail(*output.finish->error);

  if (!request_.drops_completion()) {
    usage_.add_completion_tokens(static_cast<int64_t>(output.tokens.size()));
    for (const bool is_reasoning : output.is_reasoning) usage_.add_reasoning_tokens(is_reasoning ? 1 : 0);
  }
  if (!output.prompt_logprobs.empty()) choice.prompt_logprobs = std::move(output.prompt_logprobs);
  Part part;
  if (!request_.drops_completion()) {
    parse_part(choice, part, std::move(output.text), output.finish.has_value());
    if (request_.parameters.return_token_ids) {
      for (const auto& token : output.tokens) part.token_ids.push_back(token.token_id);
    }
    if (wants_logprobs()) part.tokens = std::move(output.tokens);
  }
  if (output.finish) {
    if (output.completion_idx == 0) usage_.add_cached(output.finish->usage.cached_tokens);
    choice.finish = std::move(output.finish);
    --num_unfinished_;
  }
  if (request_.parameters.stream) {
    if (!choice.has_begun) begin_choice(choice_idx);
    add_part(choice_idx, std::move(part));
    if (choice.finish) add_finish(choice_idx);
    return num_unfinished_ == 0 ? finish_stream() : send_events();
  }
  choice.reasoning += part.text.reasoning;
  choice.content += part.text.content;
  text::append_events(choice.answer, part.calls);
  choice.token_ids.insert(choice.token_ids.end(), part.token_ids.begin(), part.token_ids.end());
  std::move(part.tokens.begin(), part.tokens.end(), std::back_inserter(choice.tokens));
  if (num_unfinished_ == 0) finish_whole();
}

// Divides text into thought, content and tool calls.
void CompletionCall::parse_part(Choice& choice, Part& part, std::string text, bool is_last) {
  if (!is_chat() || !request_.parameters.separate_reasoning) {
    part.text.content = std::move(text);
    return;
  }
  part.text = choice.parser.push(text);
  if (is_last) {
    const text::ReasoningDelta rest = choice.parser.finish();
    part.text.reasoning += rest.reasoning;
    part.text.content += rest.content;
  }
  if (!request_.parameters.include_reasoning) part.text.reasoning.clear();
  if (!choice.tool_parser) return;
  std::vector<text::ToolCallEvent> events = choice.tool_parser->push(part.text.content);
  if (is_last) {
    for (auto& event : choice.tool_parser->finish()) events.push_back(std::move(event));
  }
  part.text.content.clear();
  for (auto& event : events) {
    if (event.kind == text::ToolCallEvent::Kind::kContent) {
      part.text.content += event.text;
    } else if (event.call_idx == 0 || request_.parameters.parallel_tool_calls) {
      if (event.kind == text::ToolCallEvent::Kind::kBegin) choice.call_ids.push_back("call_" + random_id());
      if (event.kind == text::ToolCallEvent::Kind::kEnd) choice.ends_in_whole_call = event.complete;
      part.calls.push_back(std::move(event));
    }
  }
}

// Appends an event; `choices` is the JSON of its list of choices.
void CompletionCall::add_chunk(std::string_view choices, bool with_usage) {
  unsent_events_ += "data: ";
  unsent_events_ += chunk_head_;
  unsent_events_ += "\"choices\":";
  unsent_events_ += choices;
  if (with_usage) {
    unsent_events_ += ",\"usage\":" + io::dump_json(usage_.json());
  } else if (request_.parameters.include_usage) {
    unsent_events_ += ",\"usage\":null";
  }
  unsent_events_ += "}\n\n";
}

// What came of one output goes out in one write.
void CompletionCall::send_events() {
  if (!unsent_events_.empty()) exchange_->write(std::exchange(unsent_events_, {}));
}

void CompletionCall::begin_choice(size_t choice_idx) {
  Choice& choice = choices_[choice_idx];
  choice.has_begun = true;
  // What the client already knows comes back with the first chunk.
  if (!is_chat()) {
    const std::vector<int32_t>& prompt = request_.prompts[choice.prompt_idx];
    const bool with_ids = request_.parameters.return_token_ids;
    if (!request_.parameters.echo && !with_ids) return;
    const std::string text = request_.parameters.echo
                                 ? served_.tokenizer->decode(prompt, request_.parameters.skip_special_tokens)
                                 : "";
    io::Json chunk = {
        {"index", choice_idx}, {"text", text}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
    if (with_ids) chunk["prompt_token_ids"] = prompt;
    return add_chunk(io::dump_json(io::Json::array({std::move(chunk)})),
                     request_.parameters.continuous_usage);
  }
  io::Json chunk = {{"index", choice_idx},
                    {"delta", {{"role", "assistant"}, {"content", ""}}},
                    {"logprobs", nullptr},
                    {"finish_reason", nullptr}};
  std::string choices = io::dump_json(io::Json::array({std::move(chunk)}));
  // All choices have the one prompt, whose ids stand beside them.
  if (request_.parameters.return_token_ids && choice_idx == 0)
    choices += ",\"prompt_token_ids\":" + io::dump_json(request_.prompts[choice.prompt_idx]);
  add_chunk(choices, request_.parameters.continuous_usage);
}

void CompletionCall::add_part(size_t choice_idx, Part&& part) {
  Choice& choice = choices_[choice_idx];
  if (part.text.reasoning.empty() && part.text.content.empty() && part.calls.empty() && part.tokens.empty() &&
      part.token_ids.empty())
    return;
  // Nearly every chunk of a stream is written here, so its JSON is put together from its parts, without a
  // tree. The tokens go with the first chunk of the part.
  const auto add = [&](const std::string& text) {
    std::string logprobs = "null";
    if (!part.tokens.empty()) {
      if (is_chat()) {
        logprobs = io::dump_json(chat_logprobs(part.tokens, names_));
      } else {
        for (const auto& token : part.tokens) choice.logprobs.add(token);
        logprobs = io::dump_json(choice.logprobs.take());
      }
      part.tokens.clear();
    }
    std::string token_ids;
    if (request_.parameters.return_token_ids)
      token_ids = ",\"token_ids\":" + io::dump_json(std::exchange(part.token_ids, {}));
    add_chunk(fmt::format(R"([{{"index":{},{},"logprobs":{},"finish_reason":null{}}}])", choice_idx, text,
                          logprobs, token_ids),
              request_.parameters.continuous_usage);
  };
  if (!is_chat()) return add("\"text\":" + json_string(part.text.content));
  if (!part.text.reasoning.empty()) {
    const std::string reasoning = json_string(part.text.reasoning);
    add(fmt::format(R"("delta":{{"reasoning":{0},"reasoning_content":{0}}})", reasoning));
  }
  if (!part.text.content.empty() || (part.text.reasoning.empty() && part.calls.empty()))
    add(fmt::format(R"("delta":{{"content":{}}})", json_string(part.text.content)));
  for (const auto& event : part.calls) {
    if (event.kind == text::ToolCallEvent::Kind::kEnd) continue;
    add(fmt::format(R"("delta":{{"tool_calls":[{}]}})", io::dump_json(call_delta(choice, event))));
  }
}

io::Json CompletionCall::call_delta(const Choice& choice, const text::ToolCallEvent& event) const {
  if (event.kind == text::ToolCallEvent::Kind::kArguments)
    return {{"index", event.call_idx}, {"function", {{"arguments", event.text}}}};
  return {{"index", event.call_idx},
          {"id", choice.call_ids.at(static_cast<size_t>(event.call_idx))},
          {"type", "function"},
          {"function", {{"name", event.text}, {"arguments", ""}}}};
}

const char* CompletionCall::finish_reason(const Choice& choice) const {
  const bool is_call = choice.finish->reason == engine::FinishReason::kStop && choice.ends_in_whole_call;
  return is_call ? "tool_calls" : engine::finish_reason_name(choice.finish->reason);
}

void CompletionCall::add_finish(size_t choice_idx) {
  const engine::Finish& finish = *choices_[choice_idx].finish;
  io::Json chunk = {{"index", choice_idx}};
  if (is_chat()) {
    chunk["delta"] = io::Json::object();
  } else {
    chunk["text"] = "";
  }
  chunk["logprobs"] = nullptr;
  chunk["finish_reason"] = finish_reason(choices_[choice_idx]);
  chunk["stop_reason"] = stop_reason_json(finish);
  add_chunk(io::dump_json(io::Json::array({std::move(chunk)})), request_.parameters.continuous_usage);
}

void CompletionCall::finish_stream() {
  if (request_.parameters.include_usage) add_chunk("[]", true);
  unsent_events_ += kSseDone;
  send_events();
  exchange_->end();
  end(200);
}

void CompletionCall::finish_whole() {
  io::Json choices = io::Json::array();
  for (size_t i = 0; i < choices_.size(); ++i)
    choices.push_back(is_chat() ? chat_choice(i) : completion_choice(i));
  std::string body = envelope(is_chat() ? "chat.completion" : "text_completion");
  body += "\"choices\":" + io::dump_json(choices);
  body += ",\"usage\":" + io::dump_json(usage_.json());
  if (is_chat() && request_.parameters.return_token_ids)
    body += ",\"prompt_token_ids\":" + io::dump_json(request_.prompts[0]);
  if (is_chat() && request_.parameters.prompt_logprobs)
    body +=
        ",\"prompt_logprobs\":" + io::dump_json(prompt_logprobs_json(choices_[0].prompt_logprobs, names_));
  body += '}';
  HttpResponse response = std::move(head_);
  response.body = std::move(body);
  exchange_->respond(std::move(response));
  end(200);
}

io::Json CompletionCall::chat_choice(size_t choice_idx) {
  Choice& choice = choices_[choice_idx];
  const io::Json reasoning = text_or_null(choice.reasoning);
  io::Json json = {{"index", choice_idx},
                   {"message",
                    {{"role", "assistant"},
                     {"content", choice.content},
                     {"reasoning", reasoning},
                     {"reasoning_content", reasoning}}},
                   {"logprobs", wants_logprobs() ? chat_logprobs(choice.tokens, names_) : io::Json(nullptr)},
                   {"finish_reason", finish_reason(choice)},
                   {"stop_reason", stop_reason_json(*choice.finish)}};
  if (!choice.answer.calls.empty()) {
    io::Json calls = io::Json::array();
    for (size_t i = 0; i < choice.answer.calls.size(); ++i) {
      const text::ToolCall& call = choice.answer.calls[i];
      calls.push_back({{"id", choice.call_ids.at(i)},
                       {"type", "function"},
                       {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    }
    json["message"]["tool_calls"] = std::move(calls);
    json["message"]["content"] = text_or_null(choice.content);
  }
  if (request_.parameters.return_token_ids) json["token_ids"] = choice.token_ids;
  return json;
}

io::Json CompletionCall::completion_choice(size_t choice_idx) {
  Choice& choice = choices_[choice_idx];
  const std::vector<int32_t>& prompt = request_.prompts[choice.prompt_idx];
  if (request_.parameters.echo) echo_prompt(choice);
  for (const auto& token : choice.tokens) choice.logprobs.add(token);
  io::Json json = {{"index", choice_idx},
                   {"text", choice.content},
                   {"logprobs", wants_logprobs() ? choice.logprobs.take() : io::Json(nullptr)},
                   {"finish_reason", finish_reason(choice)},
                   {"stop_reason", stop_reason_json(*choice.finish)}};
  if (request_.parameters.prompt_logprobs && !request_.parameters.echo)
    json["prompt_logprobs"] = prompt_logprobs_json(choice.prompt_logprobs, names_);
  if (request_.parameters.return_token_ids) {
    json["token_ids"] = choice.token_ids;
    json["prompt_token_ids"] = prompt;
  }
  return json;
}

void CompletionCall::echo_prompt(Choice& choice) {
  const std::vector<int32_t>& prompt = request_.prompts[choice.prompt_idx];
  choice.content.insert(0, served_.tokenizer->decode(prompt, request_.parameters.skip_special_tokens));
  if (!wants_logprobs()) return;
  // Scores come with the prompt's first completion.
  const size_t first = choice.prompt_idx * static_cast<size_t>(request_.parameters.n);
  choice.logprobs.add_unscored(prompt[0]);
  for (const auto& score : choices_[first].prompt_logprobs) choice.logprobs.add(score);
}

void CompletionCall::fail(const Error& error) {
  if (std::exchange(has_failed_, true)) return;
  const ApiError api_error = to_api_error(error);
  if (request_.parameters.stream) {
    unsent_events_ += sse_event(io::dump_json(error_json(api_error)));
    unsent_events_ += kSseDone;
    send_events();
    exchange_->end();
    end(api_error.status);
  } else {
    refuse(api_error);
  }
}

// The whole answer is the error.
void CompletionCall::refuse(const ApiError& api_error) {
  HttpResponse response = error_response(api_error);
  response.headers.insert(response.headers.end(), head_.headers.begin(), head_.headers.end());
  exchange_->respond(std::move(response));
  end(api_error.status);
}

void CompletionCall::end(int status) {
  if (std::exchange(has_ended_, true)) return;
  exchange_.reset();
  // What it holds is let go before the last sink lets go of this.
  std::exchange(on_end_, nullptr)({status, usage_.prompt_tokens(), usage_.completion_tokens()});
}

}  // namespace nemoforge::server
