#include "text/chat_template.h"

#include <nlohmann/json.hpp>

#include "io/file.h"

namespace nemoforge::text {
namespace {

bool is_given(const io::Json* json) {
  return json != nullptr && !json->is_null();
}

tl::unexpected<Error> invalid(std::string message) {
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

// "messages[3]", for errors.
std::string place(size_t message_idx) {
  return "messages[" + std::to_string(message_idx) + "]";
}

// The text of one part of a content list.
Result<std::string> part_text(const io::Json& part, const std::string& where) {
  if (part.is_string()) return part.get<std::string>();
  if (!part.is_object()) return invalid(where + ": a content part must be an object or a string");
  const auto type = part.find("type");
  const std::string name = type != part.end() && type->is_string() ? type->get<std::string>() : "text";
  if (name != "text" && name != "input_text" && name != "output_text" && name != "refusal") {
    return error(ErrorCode::kUnsupported, where + ": content parts of type '" + name + "' are not supported",
                 "this model reads text only");
  }
  const auto text = part.find(name == "refusal" ? "refusal" : "text");
  if (text == part.end() || !text->is_string())
    return invalid(where + ": a content part of type '" + name + "' has no text");
  return text->get<std::string>();
}

Status flatten_content(io::Json& message, const std::string& where) {
  const auto content = message.find("content");
  if (content == message.end() || !content->is_array()) return {};
  std::string joined;
  bool first = true;
  for (const auto& part : *content) {
    NF_TRY(const std::string text, part_text(part, where));
    if (!first) joined += '\n';
    first = false;
    joined += text;
  }
  *content = std::move(joined);
  return {};
}

// The function of a tool call, which may also stand there without its envelope.
io::Json& function_of(io::Json& tool_call) {
  const auto function = tool_call.find("function");
  return function != tool_call.end() && function->is_object() ? *function : tool_call;
}

Status parse_arguments(io::Json& message, const std::string& where) {
  const auto tool_calls = message.find("tool_calls");
  if (tool_calls == message.end() || !tool_calls->is_array()) return {};
  for (auto& tool_call : *tool_calls) {
    if (!tool_call.is_object()) return invalid(where + ": a tool call must be an object");
    io::Json& function = function_of(tool_call);
    io::Json& arguments = function["arguments"];
    if (arguments.is_null() || (arguments.is_string() && arguments.get_ref<const std::string&>().empty())) {
      arguments = io::Json::object();
    } else if (arguments.is_string()) {
      auto parsed = io::parse_json(arguments.get_ref<const std::string&>());
      if (!parsed)
        return invalid(where + ": the arguments of a tool call are no JSON: " + parsed.error().message);
      arguments = std::move(*parsed);
    }
  }
  return {};
}

void alias_reasoning(io::Json& message) {
  const auto reasoning = message.find("reasoning");
  if (reasoning == message.end() || reasoning->is_null() || message.contains("reasoning_content")) return;
  io::Json copy = *reasoning;
  message["reasoning_content"] = std::move(copy);
}

Result<io::Json> prepare_messages(const io::Json& messages) {
  io::Json prepared = messages;
  size_t idx = 0;
  for (auto& message : prepared) {
    const std::string where = place(idx++);
    if (!message.is_object()) return invalid(where + " must be an object");
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string()) return invalid(where + " has no role");
    NF_RETURN_IF_ERROR(flatten_content(message, where));
    NF_RETURN_IF_ERROR(parse_arguments(message, where));
    alias_reasoning(message);
  }
  return prepared;
}

Error with_prefix(Error failure, const std::string& prefix) {
  failure.message = prefix + failure.message;
  return failure;
}

Result<jinja::Template> parse_template(const std::string& source, const std::string& path) {
  auto parsed = jinja::Template::parse(source);
  if (!parsed) return tl::unexpected<Error>(with_prefix(parsed.error(), path + ": "));
  return parsed;
}

// The texts of `chat_template`: the default one, and the one for requests with tools.
struct NamedTemplates {
  std::optional<jinja::Template> standard;
  std::optional<jinja::Template> tool_use;
};

Result<NamedTemplates> read_config_templates(const io::Json& config, const std::string& path) {
  NamedTemplates out;
  const auto entry = config.is_object() ? config.find("chat_template") : config.end();
  if (!config.is_object() || entry == config.end() || entry->is_null()) return out;
  if (entry->is_string()) {
    NF_TRY(out.standard, parse_template(entry->get<std::string>(), path + ": chat_template"));
    return out;
  }
  if (!entry->is_array())
    return error(ErrorCode::kInvalidData, path + ": chat_template is neither a text nor a list");
  for (const auto& named : *entry) {
    const bool is_named = named.is_object() && named.contains("name") && named["name"].is_string() &&
                          named.contains("template") && named["template"].is_string();
    if (!is_named)
      return error(ErrorCode::kInvalidData, path + ": an entry of chat_template lacks name or template");
    const std::string name = named["name"].get<std::string>();
    if (name != "default" && name != "tool_use") continue;
    std::string where = path;
    where += ": template ";
    where += name;
    NF_TRY(auto parsed, parse_template(named["template"].get<std::string>(), where));
    (name == "default" ? out.standard : out.tool_use) = std::move(parsed);
  }
  return out;
}

// The special tokens, each a text or an object with its content.
std::vector<std::pair<std::string, std::string>> read_special_tokens(const io::Json& config) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const auto token = config.find(name);
    if (token == config.end()) continue;
    if (token->is_string()) out.emplace_back(name, token->get<std::string>());
    if (token->is_object() && token->contains("content") && (*token)["content"].is_string()) {
      out.emplace_back(name, (*token)["content"].get<std::string>());
    }
  }
  return out;
}

Status check_type(bool holds, const char* field, const char* wanted) {
  if (holds) return {};
  return invalid(std::string(field) + " must be " + wanted);
}

}  // namespace

Result<ChatRequest> ChatRequest::from_json(const io::Json& request) {
  if (!request.is_object()) return invalid("a chat request must be a JSON object");
  ChatRequest out;
  const auto field = [&](const char* name) -> const io::Json* {
    const auto it = request.find(name);
    return it != request.end() && !it->is_null() ? &*it : nullptr;
  };
  out.messages = field("messages");
  out.tools = field("tools");
  out.documents = field("documents");
  out.chat_template_kwargs = field("chat_template_kwargs");
  if (const io::Json* add = field("add_generation_prompt")) {
    NF_RETURN_IF_ERROR(check_type(add->is_boolean(), "add_generation_prompt", "true or false"));
    out.add_generation_prompt = add->get<bool>();
  }
  return out;
}

Result<ChatTemplate> ChatTemplate::load(const std::string& model_dir) {
  const std::string config_path = model_dir + "/tokenizer_config.json";
  auto config = io::read_json_file(config_path);
  if (!config && config.error().code != ErrorCode::kNotFound) return forward_error(std::move(config));
  const io::Json tokenizer_config = config ? std::move(*config) : io::Json::object();

  const std::string template_path = model_dir + "/chat_template.jinja";
  NamedTemplates templates;
  auto source = io::read_file(template_path);
  if (source) {
    NF_TRY(templates.standard, parse_template(*source, template_path));
  } else if (source.error().code != ErrorCode::kNotFound) {
    return forward_error(std::move(source));
  } else {
    NF_TRY(templates, read_config_templates(tokenizer_config, config_path));
  }
  if (!templates.standard) {
    return error(ErrorCode::kNotFound, model_dir + ": no chat template",
                 "a checkpoint has it in chat_template.jinja or in tokenizer_config.json");
  }
  ChatTemplate out(std::move(*templates.standard));
  out.tool_use_ = std::move(templates.tool_use);
  if (tokenizer_config.is_object()) out.special_tokens_ = read_special_tokens(tokenizer_config);
  return out;
}

Result<ChatTemplate> ChatTemplate::from_source(
    std::string_view source, std::vector<std::pair<std::string, std::string>> special_tokens) {
  NF_TRY(auto parsed, parse_template(std::string(source), "chat template"));
  ChatTemplate out(std::move(parsed));
  out.special_tokens_ = std::move(special_tokens);
  return out;
}

Result<std::string> ChatTemplate::render(const ChatRequest& request) const {
  NF_RETURN_IF_ERROR(
      check_type(is_given(request.messages) && request.messages->is_array(), "messages", "an array"));
  const bool has_tools = is_given(request.tools);
  if (has_tools) NF_RETURN_IF_ERROR(check_type(request.tools->is_array(), "tools", "an array"));
  if (is_given(request.documents)) {
    NF_RETURN_IF_ERROR(check_type(request.documents->is_array(), "documents", "an array"));
  }
  NF_TRY(io::Json messages, prepare_messages(*request.messages));

  std::vector<std::pair<std::string, io::Json>> variables;
  for (const auto& [name, token] : special_tokens_) variables.emplace_back(name, token);
  variables.emplace_back("messages", std::move(messages));
  variables.emplace_back("tools", has_tools ? *request.tools : io::Json());
  variables.emplace_back("documents", is_given(request.documents) ? *request.documents : io::Json());
  variables.emplace_back("add_generation_prompt", request.add_generation_prompt);
  if (is_given(request.chat_template_kwargs)) {
    const io::Json& kwargs = *request.chat_template_kwargs;
    NF_RETURN_IF_ERROR(check_type(kwargs.is_object(), "chat_template_kwargs", "an object"));
    for (const auto& [name, value] : kwargs.items()) {
      if (name == "messages" || name == "tools" || name == "documents") {
        return invalid("chat_template_kwargs may not set '" + name + "'; it is a field of the request");
      }
      variables.emplace_back(name, value);
    }
  }
  const jinja::Template& chosen = has_tools && tool_use_ ? *tool_use_ : default_;
  auto text = chosen.render(variables);
  if (!text) return tl::unexpected<Error>(with_prefix(text.error(), "chat template "));
  return text;
}

}  // namespace nemoforge::text
