#include "train/sft_document.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace nemoforge::train {
namespace {

using io::Json;

class Renderer {
 public:
  Renderer(const Json& row, const text::ChatTemplate& chat_template)
      : chat_template_(chat_template), kwargs_(row.value("chat_template_kwargs", Json::object())) {
    if (!kwargs_.is_object()) kwargs_ = Json::object();
    tools_ = row.value("tools", Json());
    messages_ = Json::array();
  }

  void add_message(const Json& message) { messages_.push_back(message); }

  [[nodiscard]] Result<std::string> conversation() const { return render(messages_, false, kwargs_); }

  // The prompts that serving may put before a turn: as the row asks, thinking, not thinking.
  [[nodiscard]] Result<std::vector<std::string>> prompts() const {
    std::vector<std::string> prompts;
    NF_TRY(std::string asked, render(messages_, true, kwargs_));
    prompts.push_back(std::move(asked));
    for (const bool enable_thinking : {true, false}) {
      Json kwargs = kwargs_;
      kwargs["enable_thinking"] = enable_thinking;
      NF_TRY(std::string prompt, render(messages_, true, kwargs));
      prompts.push_back(std::move(prompt));
    }
    return prompts;
  }

 private:
  [[nodiscard]] Result<std::string> render(const Json& messages, bool add_generation_prompt,
                                           const Json& kwargs) const {
    text::ChatRequest request;
    request.messages = &messages;
    request.tools = &tools_;
    request.add_generation_prompt = add_generation_prompt;
    request.chat_template_kwargs = &kwargs;
    return chat_template_.render(request);
  }

  const text::ChatTemplate& chat_template_;
  Json kwargs_;
  Json tools_;
  Json messages_;
};

// A document in the making, and the text that its tokens are.
struct Draft {
  SftDocument document;
  std::string text;

  void append(std::string_view piece, bool has_loss, const text::Tokenizer& tokenizer) {
    const std::vector<int32_t> ids = tokenizer.encode(piece);
    document.token_ids.insert(document.token_ids.end(), ids.begin(), ids.end());
    document.has_loss.resize(document.token_ids.size(), has_loss);
    text += piece;
  }
};

// The completion up to and with the last token that ends a turn; all of it where there is none.
std::string_view through_end_of_turn(std::string_view completion, const SftFormat& format) {
  size_t end = 0;
  for (const int64_t id : format.eos_token_ids) {
    const std::string_view spelling = format.tokenizer->token(id);
    if (spelling.empty()) continue;
    const size_t at = completion.rfind(spelling);
    if (at != std::string_view::npos) end = std::max(end, at + spelling.size());
  }
  return end == 0 ? completion : completion.substr(0, end);
}

// The longest prompt that the conversation continues.
std::optional<std::string> prompt_of(const std::vector<std::string>& prompts, const std::string& text) {
  std::optional<std::string> best;
  for (const std::string& prompt : prompts) {
    if (text.starts_with(prompt) && (!best || prompt.size() > best->size())) best = prompt;
  }
  return best;
}

tl::unexpected<Error> turn_error(size_t message_idx, const std::string& what) {
  return error(ErrorCode::kInvalidData, "message " + std::to_string(message_idx) + " " + what);
}

}  // namespace

int64_t SftDocument::num_loss_tokens() const {
  return std::count(has_loss.begin(), has_loss.end(), true);
}

Result<std::vector<SftDocument>> make_sft_documents(const Json& row, const SftFormat& format) {
  if (!row.is_object() || !row.contains("messages") || !row["messages"].is_array()) {
    return error(ErrorCode::kInvalidData, "not an object with a list of \"messages\"");
  }
  std::vector<SftDocument> documents;
  Draft draft;
  Renderer renderer(row, *format.chat_template);
  const Json& messages = row["messages"];
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    if (!message.is_object() || !message.contains("role")) return turn_error(i, "has no role");
    if (message["role"] != Json("assistant")) {
      renderer.add_message(message);
      continue;
    }
    NF_TRY(const std::vector<std::string> prompts, renderer.prompts());
    renderer.add_message(message);
    NF_TRY(const std::string text, renderer.conversation());
    const std::optional<std::string> prompt = prompt_of(prompts, text);
    if (!prompt) {
      return turn_error(i, "is not rendered by the chat template as a continuation of its generation prompt");
    }
    const std::string_view completion =
        through_end_of_turn(std::string_view(text).substr(prompt->size()), format);
    if (completion.empty()) return turn_error(i, "of the assistant is empty");
    if (!prompt->starts_with(draft.text)) {
      documents.push_back(std::move(draft.document));
      draft = {};
    }
    draft.append(std::string_view(*prompt).substr(draft.text.size()), false, *format.tokenizer);
    draft.append(completion, true, *format.tokenizer);
  }
  if (draft.text.empty()) return error(ErrorCode::kInvalidData, "holds no message of the assistant");
  documents.push_back(std::move(draft.document));
  return documents;
}

}  // namespace nemoforge::train
