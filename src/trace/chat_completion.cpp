#include "trace/chat_completion.h"

#include <limits>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "io/json.h"
#include "text/reasoning.h"
#include "text/utf8.h"

namespace nemoforge::trace {
namespace {

using io::Json;

constexpr size_t kMaxErrorTextBytes = 300;

// The member `key`, or null where `json` is no object or has none.
const Json& member(const Json& json, const char* key) {
  static const Json null;
  if (!json.is_object()) return null;
  const auto entry = json.find(key);
  return entry == json.end() ? null : *entry;
}

std::string string_member(const Json& json, const char* key) {
  const Json& value = member(json, key);
  return value.is_string() ? value.get<std::string>() : "";
}

int64_t integer_member(const Json& json, const char* key) {
  const Json& value = member(json, key);
  return value.is_number_integer() ? value.get<int64_t>() : 0;
}

// The list as token ids; empty where it is not one.
std::vector<int32_t> token_ids_of(const Json& list) {
  std::vector<int32_t> ids;
  if (!list.is_array()) return ids;
  for (const Json& id : list) {
    if (!id.is_number_integer()) return {};
    const int64_t value = id.get<int64_t>();
    if (value < 0 || value > std::numeric_limits<int32_t>::max()) return {};
    ids.push_back(static_cast<int32_t>(value));
  }
  return ids;
}

std::vector<float> logprobs_of(const Json& content) {
  std::vector<float> logprobs;
  if (!content.is_array()) return logprobs;
  for (const Json& token : content) {
    const Json& logprob = member(token, "logprob");
    if (!logprob.is_number()) return {};
    logprobs.push_back(logprob.get<float>());
  }
  return logprobs;
}

// Takes the texts from where servers put them.
void read_texts(const Json& message, SampledAnswer& answer) {
  answer.answer = string_member(message, "content");
  answer.reasoning = string_member(message, "reasoning_content");
  if (answer.reasoning.empty()) answer.reasoning = string_member(message, "reasoning");
  if (!answer.reasoning.empty()) return;
  // No reasoning parser at work there: the content is the completion as it was sampled.
  answer.completion = answer.answer;
  // The prompt that the server made is not known: a </think> says that the answer began as a thought.
  const bool has_thought = answer.completion.find("</think>") != std::string::npos;
  const bool has_start = answer.completion.find("<think>") < answer.completion.find("</think>");
  if (!has_thought) return;
  text::ReasoningDelta split = text::split_reasoning(
      answer.completion, has_start ? text::ReasoningStart::kUndecided : text::ReasoningStart::kReasoning);
  answer.reasoning = std::move(split.reasoning);
  answer.answer = std::move(split.content);
}

}  // namespace

std::string chat_completion_body(const std::string& model, const TraceRequest& request,
                                 const SamplingSettings& settings, ApiExtensions extensions) {
  auto messages = io::parse_json(request.messages_json);
  NF_CHECK(messages.has_value()) << request.messages_json;
  if (extensions == ApiExtensions::kLeftOut) {
    for (Json& message : *messages) message.erase("reasoning_content");
  }
  Json body = {{"model", model},
               {"messages", *messages},
               {"temperature", settings.temperature},
               {"top_p", settings.top_p},
               {"max_tokens", settings.max_tokens},
               {"seed", request.seed},
               {"logprobs", true},
               {"stream", false}};
  if (extensions == ApiExtensions::kLeftOut) return io::dump_json(body);
  body["return_token_ids"] = true;
  body["chat_template_kwargs"] = {{"enable_thinking", settings.enable_thinking}};
  if (settings.reasoning_budget) body["thinking_token_budget"] = *settings.reasoning_budget;
  if (settings.top_k > 0) body["top_k"] = settings.top_k;
  if (settings.min_p > 0) body["min_p"] = settings.min_p;
  return io::dump_json(body);
}

Result<SampledAnswer> parse_chat_completion(const std::string& body) {
  NF_TRY(const Json json, io::parse_json(body));
  const Json& choices = member(json, "choices");
  if (!choices.is_array() || choices.empty() || !member(choices[0], "message").is_object()) {
    return error(ErrorCode::kInvalidData, "the response is no chat completion: " + api_error_text(body));
  }
  const Json& choice = choices[0];
  SampledAnswer answer;
  read_texts(member(choice, "message"), answer);
  answer.finish_reason = string_member(choice, "finish_reason");
  answer.prompt_token_ids = token_ids_of(member(json, "prompt_token_ids"));
  answer.completion_token_ids = token_ids_of(member(choice, "token_ids"));
  answer.completion_logprobs = logprobs_of(member(member(choice, "logprobs"), "content"));
  // Logprobs are those of the ids, one for one, or useless for training.
  if (answer.completion_logprobs.size() != answer.completion_token_ids.size())
    answer.completion_logprobs.clear();
  const Json& usage = member(json, "usage");
  answer.num_prompt_tokens = integer_member(usage, "prompt_tokens");
  answer.num_completion_tokens = integer_member(usage, "completion_tokens");
  answer.num_reasoning_tokens =
      integer_member(member(usage, "completion_tokens_details"), "reasoning_tokens");
  return answer;
}

Result<std::string> parse_model_list(const std::string& body) {
  NF_TRY(const Json json, io::parse_json(body));
  const Json& data = member(json, "data");
  const std::string id = data.is_array() && !data.empty() ? string_member(data[0], "id") : "";
  if (id.empty()) {
    return error(ErrorCode::kInvalidData, "the list of models is empty: " + api_error_text(body));
  }
  return id;
}

std::string api_error_text(const std::string& body) {
  std::string text = body;
  if (const auto json = io::parse_json(body)) {
    const Json& failure = member(*json, "error");
    std::string message = string_member(failure.is_object() ? failure : *json, "message");
    if (message.empty() && failure.is_string()) message = failure.get<std::string>();
    if (!message.empty()) text = message;
  }
  if (text.size() > kMaxErrorTextBytes) text = text.substr(0, kMaxErrorTextBytes) + "...";
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  return text::repair_utf8(text);
}

}  // namespace nemoforge::trace
