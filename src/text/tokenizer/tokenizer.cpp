#include "text/tokenizer/tokenizer.h"

#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer/tokenizer_json.h"
#include "text/utf8.h"

namespace nemoforge::text {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{256} << 20;  // the largest in use is 35 MB

// "added_tokens_decoder": {"10": {"content": "<|im_start|>", ...}, ...}
Status check_config(const io::Json& config, const Vocabulary& vocabulary) {
  const auto added = config.find("added_tokens_decoder");
  if (added == config.end() || !added->is_object()) return {};
  for (const auto& [id, token] : added->items()) {
    const auto content = token.is_object() ? token.find("content") : token.end();
    if (!token.is_object() || content == token.end() || !content->is_string()) {
      return error(ErrorCode::kInvalidData, "added_tokens_decoder \"" + id + "\" has no content");
    }
    const auto found = vocabulary.find(content->get_ref<const std::string&>());
    if (!found || std::to_string(*found) != id) {
      return error(ErrorCode::kInvalidData,
                   "added_tokens_decoder gives " + content->dump() + " the id " + id + ", tokenizer.json " +
                       (found ? std::to_string(*found) : "none"),
                   "save the tokenizer again with transformers, which writes both files alike");
    }
  }
  return {};
}

// One call of encode: the buffers, and the way from a text to its words' ids.
class Encoder {
 public:
  Encoder(const TokenizerParts& parts, std::vector<int32_t>& ids) : parts_(parts), ids_(ids) {}

  void encode(std::string_view text) {
    std::vector<TextPart> found;
    std::vector<TextPart> found_normalized;
    parts_.added_tokens.find(text, found);
    for (const TextPart& part : found) {
      if (part.id >= 0) {
        ids_.push_back(part.id);
        continue;
      }
      const std::string_view between = text.substr(part.span.begin, part.span.end - part.span.begin);
      found_normalized.clear();
      parts_.normalized_added_tokens.find(between, found_normalized);
      for (const TextPart& inner : found_normalized) {
        if (inner.id >= 0) {
          ids_.push_back(inner.id);
        } else {
          encode_words(between.substr(inner.span.begin, inner.span.end - inner.span.begin));
        }
      }
    }
  }

 private:
  void encode_words(std::string_view text) {
    parts_.pre_tokenizer.cut(text, words_);
    const std::string_view cut = words_.text;
    for (const Span span : words_.spans) {
      parts_.bpe.encode_word(cut.substr(span.begin, span.end - span.begin), scratch_, ids_);
    }
  }

  const TokenizerParts& parts_;
  std::vector<int32_t>& ids_;
  PreTokenizer::Words words_;
  Bpe::Scratch scratch_;
};

}  // namespace

Tokenizer::Tokenizer(TokenizerParts parts) : parts_(std::make_unique<TokenizerParts>(std::move(parts))) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Result<Tokenizer> Tokenizer::load(const std::string& model_dir) {
  const std::string path = model_dir + "/tokenizer.json";
  NF_TRY(const std::string text, io::read_file(path, kMaxFileBytes));
  auto tokenizer = from_json(text);
  if (!tokenizer) return error(tokenizer.error().code, path + ": " + tokenizer.error().message);
  const std::string config_path = model_dir + "/tokenizer_config.json";
  if (std::filesystem::exists(config_path)) {
    NF_TRY(const io::Json config, io::read_json_file(config_path, {.allow_non_finite = true}));
    if (auto checked = check_config(config, tokenizer->parts_->vocabulary); !checked) {
      const Error& found = checked.error();
      return error(found.code, config_path + ": " + found.message, found.hint);
    }
  }
  return tokenizer;
}

Result<Tokenizer> Tokenizer::from_json(std::string_view tokenizer_json) {
  NF_TRY(TokenizerParts parts, read_tokenizer_json(tokenizer_json));
  return Tokenizer(std::move(parts));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  if (add_special_tokens) ids = parts_->prefix_ids;
  Encoder encoder(*parts_, ids);
  if (is_valid_utf8(text)) {
    encoder.encode(text);
  } else {
    encoder.encode(repair_utf8(text));
  }
  if (add_special_tokens) ids.insert(ids.end(), parts_->suffix_ids.begin(), parts_->suffix_ids.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip_special_tokens || !is_special(id)) bytes += token_bytes(id);
  }
  return is_valid_utf8(bytes) ? bytes : repair_utf8(bytes);
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view spelling) const {
  return parts_->vocabulary.find(spelling);
}

std::string_view Tokenizer::token(int64_t id) const {
  const Vocabulary::Entry* entry = parts_->vocabulary.entry(id);
  return entry == nullptr ? std::string_view() : entry->spelling;
}

std::string_view Tokenizer::token_bytes(int64_t id) const {
  const Vocabulary::Entry* entry = parts_->vocabulary.entry(id);
  return entry == nullptr ? std::string_view() : entry->bytes;
}

bool Tokenizer::has_token(int64_t id) const {
  return parts_->vocabulary.entry(id) != nullptr;
}

bool Tokenizer::is_special(int64_t id) const {
  const Vocabulary::Entry* entry = parts_->vocabulary.entry(id);
  return entry != nullptr && entry->special;
}

int32_t Tokenizer::vocab_size() const {
  return parts_->vocabulary.size();
}

}  // namespace nemoforge::text
