#include "server/completion_request.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "server/output_format.h"

namespace nemoforge::server {
namespace {

constexpr size_t kMaxPrompts = 128;
constexpr int kMaxDepth = 64;

tl::unexpected<Error> reject(std::string message) {
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

bool is_given(const io::Json& body, const char* name) {
  const auto found = body.find(name);
  return found != body.end() && !found->is_null();
}

Result<std::vector<int32_t>> read_prompt_ids(const io::Json& list) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const auto& item : list) {
    if (!item.is_number_integer()) return reject("prompt must hold token ids as integers.");
    const auto id = item.get<int64_t>();
    if (id < 0 || id > std::numeric_limits<int32_t>::max())
      return reject(fmt::format("prompt contains token id {}, which is out of vocabulary.", id));
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

// A string, a list of strings, a list of ids, or a list of lists of ids.
Status read_prompts(const io::Json& body, const ServedModel& served, CompletionRequest& request) {
  const auto prompt = body.find("prompt");
  if (prompt == body.end() || prompt->is_null()) return reject("prompt is required.");
  const bool add_special_tokens = request.parameters.add_special_tokens.value_or(true);
  const auto encode = [&](const io::Json& text) {
    return served.tokenizer->encode(text.get_ref<const std::string&>(), add_special_tokens);
  };
  if (prompt->is_string()) {
    request.prompts.push_back(encode(*prompt));
    return {};
  }
  if (!prompt->is_array() || prompt->empty())
    return reject("prompt must be a string, a list of strings, a list of token ids or a list of such lists.");
  if (prompt->front().is_number()) {
    NF_TRY(auto ids, read_prompt_ids(*prompt));
    request.prompts.push_back(std::move(ids));
    return {};
  }
  if (prompt->size() > kMaxPrompts)
    return reject(fmt::format("prompt must hold at most {} prompts, got {}.", kMaxPrompts, prompt->size()));
  for (const auto& item : *prompt) {
    if (item.is_string()) {
      request.prompts.push_back(encode(item));
    } else if (item.is_array()) {
      NF_TRY(auto ids, read_prompt_ids(item));
      request.prompts.push_back(std::move(ids));
    } else {
      return reject("prompt must hold strings or lists of token ids.");
    }
  }
  return {};
}

// The name that tool_choice demands a call of; empty where any tool will do.
Result<std::string> named_tool(const io::Json& choice) {
  if (choice == "required") return std::string();
  const auto function = choice.find("function");
  if (choice.value("type", io::Json()) != "function" || function == choice.end() || !function->is_object() ||
      !function->contains("name") || !function->at("name").is_string())
    return reject(
        "tool_choice must name a function: {\"type\": \"function\", \"function\": {\"name\": ...}}.");
  return function->at("name").get<std::string>();
}

// The tools that the answer may call, or must; the template shows them to the model in any case. Where a form
// of the answer is demanded, calls may come in its place; where a call is, the form is of no answer.
Status read_tools(const io::Json& body, CompletionRequest& request) {
  const bool has_tools =
      is_given(body, "tools") && !(body.at("tools").is_array() && body.at("tools").empty());
  const io::Json choice = is_given(body, "tool_choice") ? body.at("tool_choice") : io::Json("auto");
  if (choice == "none") return {};
  if (choice != "auto" && choice != "required" && !choice.is_object())
    return reject("tool_choice must be \"none\", \"auto\", \"required\" or an object.");
  if (!has_tools) {
    if (choice != "auto") return reject("tool_choice needs tools.");
    return {};
  }
  if (!request.parameters.separate_reasoning)
    return error(ErrorCode::kUnsupported, "tools with separate_reasoning false are not supported.");
  NF_TRY(text::ToolSchemas tools, text::ToolSchemas::from_json(body.at("tools")));
  if (choice != "auto") {
    NF_TRY(const std::string name, named_tool(choice));
    if (!name.empty() && !tools.has_tool(name))
      return reject(fmt::format("tool_choice names {}, which is not among tools.", name));
    const bool several = request.parameters.parallel_tool_calls && name.empty();
    NF_TRY(grammar::Grammar calls, grammar::from_tool_calls(body.at("tools"), name, several));
    request.grammar = std::make_shared<const grammar::Grammar>(std::move(calls));
  } else if (request.grammar != nullptr) {
    NF_TRY(const grammar::Grammar calls,
           grammar::from_tool_calls(body.at("tools"), "", request.parameters.parallel_tool_calls));
    request.grammar = std::make_shared<const grammar::Grammar>(grammar::either_of(calls, *request.grammar));
  }
  request.tools = std::make_shared<const text::ToolSchemas>(std::move(tools));
  return {};
}

Status read_chat(const io::Json& body, const ServedModel& served, CompletionRequest& request) {
  NF_RETURN_IF_ERROR(read_tools(body, request));
  NF_TRY(const std::string prompt, render_chat(body, request.parameters, served));
  request.reasoning_start =
      request.parameters.separate_reasoning ? text::reasoning_start(prompt) : text::ReasoningStart::kContent;
  request.prompts.push_back(
      served.tokenizer->encode(prompt, request.parameters.add_special_tokens.value_or(false)));
  return {};
}

// With an empty content where a message has none, as in an answer that is nothing but tool calls: templates
// look into it.
io::Json with_contents(const io::Json& messages) {
  io::Json all = messages;
  for (auto& message : all) {
    if (message.is_object() && !is_given(message, "content")) message["content"] = "";
  }
  return all;
}

}  // namespace

Result<io::Json> parse_body(std::string_view body) {
  io::JsonLimits limits;
  limits.max_depth = kMaxDepth;
  NF_TRY(io::Json json, io::parse_json(body, limits));
  if (!json.is_object()) return reject("the body must be a JSON object.");
  return json;
}

Result<std::string> render_chat(const io::Json& body, const Parameters& parameters,
                                const ServedModel& served) {
  if (served.chat_template == nullptr)
    return error(ErrorCode::kUnsupported, "messages need a chat template, and the model has none.",
                 "use /v1/completions");
  NF_TRY(text::ChatRequest chat, text::ChatRequest::from_json(body));
  const io::Json messages = is_given(body, "messages") ? with_contents(*chat.messages) : io::Json();
  chat.messages = &messages;
  io::Json kwargs = chat.chat_template_kwargs != nullptr && chat.chat_template_kwargs->is_object()
                        ? *chat.chat_template_kwargs
                        : io::Json::object();
  if (parameters.reasoning_effort && !kwargs.contains("enable_thinking"))
    kwargs["enable_thinking"] = *parameters.reasoning_effort != "none";
  chat.chat_template_kwargs = &kwargs;
  auto prompt = served.chat_template->render(chat);
  if (!prompt && parameter_at_fault(prompt.error().message).empty())
    return error(ErrorCode::kInvalidArgument, "messages: " + prompt.error().message, prompt.error().hint);
  return prompt;
}

std::optional<int32_t> thinking_budget(const Parameters& parameters) {
  if (parameters.thinking_token_budget) return parameters.thinking_token_budget;
  if (!parameters.reasoning_effort) return std::nullopt;
  if (*parameters.reasoning_effort == "minimal") return 512;
  if (*parameters.reasoning_effort == "low") return 2048;
  if (*parameters.reasoning_effort == "medium") return 8192;
  return std::nullopt;
}

Result<CompletionRequest> read_completion_request(const io::Json& body, Endpoint endpoint,
                                                  const ServedModel& served) {
  CompletionRequest request;
  request.endpoint = endpoint;
  NF_TRY(request.parameters, read_parameters(body, endpoint));
  Parameters& parameters = request.parameters;
  NF_TRY(request.adapter, served.registry->find(parameters.model));
  request.model = parameters.model.empty() ? served.registry->name() : parameters.model;
  NF_TRY(request.grammar, read_output_format(body));
  if (endpoint == Endpoint::kChat) {
    NF_RETURN_IF_ERROR(read_chat(body, served, request));
  } else {
    NF_RETURN_IF_ERROR(read_prompts(body, served, request));
  }
  if (request.drops_completion() && !parameters.echo)
    return reject("max_tokens must be at least 1 without echo, got 0.");
  if (parameters.echo && parameters.sampling.top_logprobs && parameters.stream)
    return error(ErrorCode::kUnsupported, "echo with logprobs is not supported together with stream.");
  if (parameters.echo && parameters.sampling.top_logprobs)
    parameters.prompt_logprobs = parameters.sampling.top_logprobs;
  if (parameters.truncate_prompt_tokens) {
    int64_t length = *parameters.truncate_prompt_tokens;
    // -1: what the context holds beside the completion.
    if (length < 0) length = std::max<int64_t>(1, served.max_model_len - parameters.max_tokens.value_or(1));
    for (auto& prompt : request.prompts) {
      if (std::cmp_greater(prompt.size(), length)) prompt.erase(prompt.begin(), prompt.end() - length);
    }
  }
  return request;
}

engine::Request CompletionRequest::engine_request(size_t prompt_idx) const {
  engine::Request request;
  request.prompt_token_ids = prompts[prompt_idx];
  request.sampling = parameters.sampling;
  request.max_tokens = parameters.max_tokens;
  if (drops_completion()) request.max_tokens = 1;
  request.n = parameters.n;
  // The same seed gives each prompt of a list its own stream.
  request.first_sample_idx = static_cast<uint32_t>(prompt_idx) * static_cast<uint32_t>(parameters.n);
  request.priority = parameters.priority;
  request.grammar = grammar;
  request.adapter = adapter;
  request.stop = parameters.stop;
  request.include_stop_str_in_output = parameters.include_stop_str_in_output;
  request.skip_special_tokens = parameters.skip_special_tokens;
  request.keep_tag_tokens = true;
  if (const auto budget = thinking_budget(parameters))
    request.thinking_budget = engine::ThinkingBudget{*budget};
  request.prompt_top_logprobs = parameters.prompt_logprobs;
  return request;
}

}  // namespace nemoforge::server
