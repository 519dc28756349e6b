#include "trace/chat_completion.h"

#include <limits>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "endpoint/openai_api.h"
#include "io/json.h"
#include "text/reasoning.h"

namespace nemoforge::trace {
namespace {

using endpoint::member;
using endpoint::string_member;
using io::Json;

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
    return error(ErrorCode::kInvalidData,
                 "the response is no chat completion: " + endpoint::api_error_text(body));
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

}  // namespace nemoforge::trace
