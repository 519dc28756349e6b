// The chat template of a checkpoint: from a client's messages to the prompt.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/json.h"
#include "text/jinja/template.h"

namespace nemoforge::text {

// The parts of a chat request that a template sees. The JSON is the caller's and outlives the rendering; null
// pointers and JSON nulls are what was not given.
struct ChatRequest {
  const io::Json* messages = nullptr;  // an array of objects with a role; required
  const io::Json* tools = nullptr;
  const io::Json* documents = nullptr;
  bool add_generation_prompt = true;
  const io::Json* chat_template_kwargs = nullptr;  // an object: further variables, such as enable_thinking

  // Reads `messages`, `tools`, `documents`, `add_generation_prompt` and `chat_template_kwargs` of a request's
  // object. kInvalidArgument where one of them has the wrong type.
  [[nodiscard]] static Result<ChatRequest> from_json(const io::Json& request);
};

class ChatTemplate {
 public:
  // From chat_template.jinja of a checkpoint's folder, else from the `chat_template` of its
  // tokenizer_config.json (a text, or named texts of which `tool_use` serves requests with tools and
  // `default` all others). The special tokens of tokenizer_config.json (bos_token, eos_token, ...) become
  // variables. kNotFound where there is no template; errors name the file and the line.
  [[nodiscard]] static Result<ChatTemplate> load(const std::string& model_dir);

  // From a template's text; `special_tokens` are further variables.
  [[nodiscard]] static Result<ChatTemplate> from_source(
      std::string_view source, std::vector<std::pair<std::string, std::string>> special_tokens = {});

  // The prompt. Messages are first put into the form that templates expect, as vLLM does:
  //  - content given as a list of parts becomes one text, its text parts joined by newlines (whatever the
  //  template
  //    could do with parts: this model reads text); a part that is no text is kUnsupported;
  //  - the arguments of tool calls given as JSON text become objects, none or an empty text an empty object;
  //  - `reasoning` is also `reasoning_content`.
  // Errors of the template or its raise_exception are "chat template line N: ...".
  [[nodiscard]] Result<std::string> render(const ChatRequest& request) const;

 private:
  explicit ChatTemplate(jinja::Template standard) : default_(std::move(standard)) {}

  jinja::Template default_;
  std::optional<jinja::Template> tool_use_;
  std::vector<std::pair<std::string, std::string>> special_tokens_;
};

}  // namespace nemoforge::text
