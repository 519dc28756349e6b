#include "endpoint/conformance.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/result.h"
#include "endpoint/http_client.h"
#include "endpoint/openai_api.h"
#include "io/json.h"

namespace nemoforge::endpoint {
namespace {

using io::Json;

// What a check found: a remark where the server did well, an error where it did not.
using Finding = Result<std::string>;

tl::unexpected<Error> wrong(std::string message) {
  return error(ErrorCode::kInvalidData, std::move(message));
}

// The start of a text that is shown in one line.
std::string excerpt(const std::string& text) {
  constexpr size_t kShown = 120;
  return text.size() <= kShown ? text : text.substr(0, kShown) + "...";
}

// The value at `path`; null where there is none.
const Json& at(const Json& json, std::initializer_list<const char*> path) {
  static const Json kNull;
  const Json* value = &json;
  for (const char* name : path) {
    if (value->is_array() && std::string_view(name) == "0") {
      if (value->empty()) return kNull;
      value = &(*value)[0];
      continue;
    }
    if (!value->is_object()) return kNull;
    const auto found = value->find(name);
    if (found == value->end()) return kNull;
    value = &*found;
  }
  return *value;
}

std::string text_at(const Json& json, std::initializer_list<const char*> path) {
  const Json& value = at(json, path);
  return value.is_string() ? value.get<std::string>() : std::string();
}

// vLLM's name, or SGLang's.
std::string reasoning_of(const Json& message) {
  const std::string text = text_at(message, {"reasoning"});
  return text.empty() ? text_at(message, {"reasoning_content"}) : text;
}

struct StreamedChat {
  std::string content;
  std::string reasoning;
  std::string finish_reason;
  bool has_usage = false;
  bool is_done = false;
};

Result<StreamedChat> read_stream(const std::string& body) {
  StreamedChat answer;
  for (size_t begin = 0; begin < body.size();) {
    const size_t end = std::min(body.find('\n', begin), body.size());
    std::string line = body.substr(begin, end - begin);
    begin = end + 1;
    if (line.ends_with('\r')) line.pop_back();
    if (!line.starts_with("data:")) continue;
    const size_t text = line.find_first_not_of(' ', 5);
    if (text == std::string::npos) continue;
    if (answer.is_done) return wrong("an event after [DONE]");
    if (line.substr(text) == "[DONE]") {
      answer.is_done = true;
      continue;
    }
    NF_TRY(const Json chunk, io::parse_json(std::string_view(line).substr(text)));
    const Json& delta = at(chunk, {"choices", "0", "delta"});
    answer.content += text_at(delta, {"content"});
    answer.reasoning += reasoning_of(delta);
    const std::string finish_reason = text_at(chunk, {"choices", "0", "finish_reason"});
    if (!finish_reason.empty()) answer.finish_reason = finish_reason;
    if (at(chunk, {"usage", "completion_tokens"}).is_number()) answer.has_usage = true;
  }
  return answer;
}

class Examination {
 public:
  explicit Examination(const ConformanceConfig& config)
      : config_(config), url_(server_root(config.url)), model_(config.model) {}

  ConformanceReport run() {
    check("health", [this] { return health(); });
    check("models", [this] { return models(); });
    check("chat, thinking on", [this] { return chat(true); });
    check("chat, thinking off", [this] { return chat(false); });
    check("streaming, thinking on", [this] { return stream(true); });
    check("streaming, thinking off", [this] { return stream(false); });
    check("tools", [this] { return tools(); });
    check("thinking budget", [this] { return budget(); });
    check("logprobs", [this] { return logprobs(); });
    check("completions", [this] { return completions(); });
    check("error: wrong type", [this] {
      Json body = chat_body(false);
      body["temperature"] = "hot";
      return refusal(io::dump_json(body), {400, 422}, "temperature");
    });
    check("error: unknown model", [this] {
      Json body = chat_body(false);
      body["model"] = "no-such-model";
      return refusal(io::dump_json(body), {404, 400}, "no-such-model");
    });
    check("error: not JSON", [this] { return refusal("{nonsense", {400, 422}, ""); });
    return {url_, model_, std::move(checks_)};
  }

 private:
  void check(const std::string& name, const std::function<Finding()>& examine) {
    const auto begin = std::chrono::steady_clock::now();
    const Finding finding = examine();
    const double ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    checks_.push_back({name, finding.has_value(), finding ? *finding : finding.error().to_string(), ms});
  }

  Result<HttpResponse> ask(const std::string& path, const std::string& body = {}) {
    client_.start(0, {url_ + path, body, config_.api_key, config_.timeout_s});
    std::vector<HttpResponse> responses;
    while (responses.empty()) responses = client_.wait(1);
    if (!responses[0].error.empty()) return error(ErrorCode::kUnavailable, responses[0].error);
    return std::move(responses[0]);
  }

  Result<std::string> ask_well(const std::string& path, const std::string& body = {}) {
    NF_TRY(HttpResponse response, ask(path, body));
    if (response.status != 200)
      return wrong(fmt::format("expected status 200, found {}: {}", response.status, excerpt(response.body)));
    return std::move(response.body);
  }

  Result<Json> ask_json(const std::string& path, const std::string& body = {}) {
    NF_TRY(const std::string text, ask_well(path, body));
    return io::parse_json(text);
  }

  [[nodiscard]] Json chat_body(bool thinking) const {
    return {{"model", model_},
            {"messages", {{{"role", "user"}, {"content", "What is 2 + 3?"}}}},
            {"max_tokens", config_.max_tokens},
            {"temperature", 0},
            {"chat_template_kwargs", {{"enable_thinking", thinking}}}};
  }

  Result<Json> ask_chat(const Json& body) { return ask_json("/v1/chat/completions", io::dump_json(body)); }

  Finding health() {
    NF_RETURN_IF_ERROR(ask_well("/health"));
    return std::string();
  }

  Finding models() {
    NF_TRY(const Json list, ask_json("/v1/models"));
    const Json& data = at(list, {"data"});
    if (!data.is_array() || data.empty()) return wrong("data lists no model");
    std::string names;
    bool is_listed = model_.empty();
    for (const Json& entry : data) {
      const std::string id = text_at(entry, {"id"});
      if (id.empty()) return wrong("a model without id");
      names += (names.empty() ? "" : ", ") + id;
      is_listed = is_listed || id == model_;
    }
    if (!is_listed) return wrong(fmt::format("{} is not among {}", model_, names));
    if (model_.empty()) model_ = text_at(data, {"0", "id"});
    return names;
  }

  static Finding check_parts(bool thinking, const std::string& reasoning, const std::string& content,
                             const std::string& finish_reason) {
    if (finish_reason != "stop" && finish_reason != "length")
      return wrong(fmt::format("finish_reason: expected stop or length, found '{}'", finish_reason));
    if (thinking && reasoning.empty())
      return wrong("neither reasoning nor reasoning_content holds any reasoning");
    if (!thinking && !reasoning.empty()) return wrong("reasoning, although thinking is off");
    if ((!thinking || finish_reason == "stop") && content.empty()) return wrong("content is empty");
    if ((reasoning + content).find("think>") != std::string::npos)
      return wrong("a reasoning tag is left in the text");
    return fmt::format("{} + {} characters", reasoning.size(), content.size());
  }

  Finding chat(bool thinking) {
    NF_TRY(const Json reply, ask_chat(chat_body(thinking)));
    const Json& message = at(reply, {"choices", "0", "message"});
    if (!at(reply, {"usage", "completion_tokens"}).is_number()) return wrong("usage is missing");
    return check_parts(thinking, reasoning_of(message), text_at(message, {"content"}),
                       text_at(reply, {"choices", "0", "finish_reason"}));
  }

  Finding stream(bool thinking) {
    Json body = chat_body(thinking);
    NF_TRY(const Json whole, ask_chat(body));
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
    NF_TRY(const std::string text, ask_well("/v1/chat/completions", io::dump_json(body)));
    NF_TRY(const StreamedChat streamed, read_stream(text));
    if (!streamed.is_done) return wrong("the stream does not end with [DONE]");
    if (!streamed.has_usage) return wrong("no usage despite include_usage");
    const Json& message = at(whole, {"choices", "0", "message"});
    if (streamed.content != text_at(message, {"content"}) || streamed.reasoning != reasoning_of(message))
      return wrong("at temperature 0 the stream differs from the whole answer");
    return check_parts(thinking, streamed.reasoning, streamed.content, streamed.finish_reason);
  }

  // The model has to call, so that a server without tools cannot pass by a model that does not want to.
  Finding tools() {
    Json body = chat_body(false);
    body["messages"][0]["content"] = "Set a timer of 5 minutes.";
    body["tool_choice"] = "required";
    body["parallel_tool_calls"] = false;
    body["tools"] = {
        {{"type", "function"},
         {"function",
          {{"name", "set_timer"},
           {"description", "Sets a timer."},
           {"parameters",
            {{"type", "object"},
             {"properties", {{"length", {{"type", "integer"}}}, {"unit", {{"enum", {"minutes", "hours"}}}}}},
             {"required", {"length", "unit"}}}}}}}};
    NF_TRY(const Json reply, ask_chat(body));
    const Json& message = at(reply, {"choices", "0", "message"});
    const Json& calls = at(message, {"tool_calls"});
    if (!calls.is_array() || calls.empty()) return wrong("tool_choice required, and nothing was called");
    if (text_at(message, {"content"}).find("<tool_call>") != std::string::npos)
      return wrong("a call was left in content");
    const Json& call = calls[0];
    if (text_at(call, {"id"}).empty() || text_at(call, {"type"}) != "function")
      return wrong("a call without id, or not of type function");
    if (text_at(call, {"function", "name"}) != "set_timer")
      return wrong("the function called is not among tools");
    auto arguments = io::parse_json(text_at(call, {"function", "arguments"}));
    if (!arguments) return wrong("arguments: " + arguments.error().to_string());
    if (!at(*arguments, {"length"}).is_number_integer()) return wrong("arguments: length is not an integer");
    const std::string unit = text_at(*arguments, {"unit"});
    if (unit != "minutes" && unit != "hours") return wrong("arguments: unit is not one of its enum");
    // OpenAI's own server ends a forced call with stop.
    const std::string finish_reason = text_at(reply, {"choices", "0", "finish_reason"});
    if (finish_reason != "tool_calls" && finish_reason != "stop")
      return wrong(fmt::format("finish_reason: expected tool_calls, found '{}'", finish_reason));
    return "called set_timer with " + io::dump_json(*arguments);
  }

  // Reasoning tokens of an answer under a budget; without one, of an answer as it comes.
  Result<int64_t> reasoning_tokens(std::optional<int64_t> budget, int64_t max_tokens) {
    Json body = chat_body(true);
    body["max_tokens"] = max_tokens;
    if (budget) body["thinking_token_budget"] = *budget;
    NF_TRY(const Json reply, ask_chat(body));
    if (budget && text_at(reply, {"choices", "0", "message", "content"}).empty())
      return wrong("no answer after the reasoning");
    const Json& tokens = at(reply, {"usage", "completion_tokens_details", "reasoning_tokens"});
    if (!tokens.is_number_integer()) return wrong("usage has no reasoning_tokens");
    return tokens.get<int64_t>();
  }

  Finding budget() {
    constexpr int64_t kBudget = 8;
    constexpr int64_t kGrace = 500;  // to the end of the line
    constexpr int64_t kTags = 2;     // which servers may count
    NF_TRY(const int64_t unbounded, reasoning_tokens({}, config_.max_tokens + kGrace));
    if (unbounded <= kTags) return wrong("no reasoning without a budget, so that none can be seen to end it");
    NF_TRY(const int64_t none, reasoning_tokens(0, config_.max_tokens + kGrace));
    NF_TRY(const int64_t some, reasoning_tokens(kBudget, config_.max_tokens + kGrace));
    const std::string found =
        fmt::format("{} reasoning tokens without a budget, {} for one of 0, {} for one of {}", unbounded,
                    none, some, kBudget);
    const bool is_kept =
        none <= kTags && some <= kBudget + kGrace && some <= std::max(unbounded, kBudget + kTags);
    if (!is_kept) return wrong(found);
    return found;
  }

  Finding logprobs() {
    Json body = chat_body(false);
    body["max_tokens"] = 8;
    body["logprobs"] = true;
    body["top_logprobs"] = 2;
    NF_TRY(const Json reply, ask_chat(body));
    const Json& entries = at(reply, {"choices", "0", "logprobs", "content"});
    if (!entries.is_array() || entries.empty()) return wrong("logprobs.content is empty");
    for (const Json& entry : entries) {
      const Json& logprob = at(entry, {"logprob"});
      const Json& top = at(entry, {"top_logprobs"});
      if (!logprob.is_number() || logprob.get<double>() > 0)
        return wrong("a logprob is not a number up to 0");
      if (!top.is_array() || top.size() < 2) return wrong("fewer than 2 top_logprobs");
    }
    return fmt::format("{} tokens", entries.size());
  }

  Finding completions() {
    NF_TRY(const Json reply,
           ask_json("/v1/completions",
                    io::dump_json(
                        {{"model", model_}, {"prompt", "1, 2, 3,"}, {"max_tokens", 4}, {"temperature", 0}})));
    if (!at(reply, {"choices", "0", "text"}).is_string()) return wrong("choices[0].text is missing");
    return excerpt(text_at(reply, {"choices", "0", "text"}));
  }

  // Servers differ in the status, not in the object. `cause` is named by its message or its param.
  Finding refusal(const std::string& body, std::pair<int64_t, int64_t> statuses, const std::string& cause) {
    NF_TRY(const HttpResponse response, ask("/v1/chat/completions", body));
    if (response.status != statuses.first && response.status != statuses.second) {
      return wrong(fmt::format("expected status {} or {}, found {}", statuses.first, statuses.second,
                               response.status));
    }
    NF_TRY(const Json reply, io::parse_json(response.body));
    const Json& error = at(reply, {"error"});
    const std::string message = text_at(error, {"message"});
    if (message.empty()) return wrong("error.message is missing: " + excerpt(response.body));
    if (text_at(error, {"type"}).empty()) return wrong("error.type is missing: " + excerpt(response.body));
    const Json& param = at(error, {"param"});
    if (!error.contains("param") || !(param.is_null() || param.is_string()))
      return wrong("error.param is neither null nor a string: " + excerpt(response.body));
    if (message.find(cause) == std::string::npos && param != cause)
      return wrong(
          fmt::format("neither error.message nor error.param names {}: {}", cause, excerpt(message)));
    const Json& code = at(error, {"code"});
    const bool has_code =
        error.contains("code") && (code.is_null() || code.is_string() || code == response.status);
    if (!has_code) return wrong("error.code is neither the status nor a name: " + excerpt(response.body));
    return excerpt(message);
  }

  const ConformanceConfig& config_;
  std::string url_;
  std::string model_;
  HttpClient client_;
  std::vector<ConformanceCheck> checks_;
};

}  // namespace

int64_t ConformanceReport::num_failed() const {
  return std::count_if(checks.begin(), checks.end(),
                       [](const ConformanceCheck& check) { return !check.passed; });
}

ConformanceReport check_conformance(const ConformanceConfig& config) {
  return Examination(config).run();
}

}  // namespace nemoforge::endpoint
