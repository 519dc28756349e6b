#include "text/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "io/json.h"
#include "text/tokenizer/byte_alphabet.h"

namespace nemoforge::text {
namespace {

using Json = io::SortedJson;  // a vocabulary is an object of a hundred thousand keys

constexpr int kMaxSequenceDepth = 8;  // Sequences within Sequences; one is usual

// ByteLevel's own pattern.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

tl::unexpected<Error> invalid(const std::string& where, const std::string& what) {
  return error(ErrorCode::kInvalidData, where + ": " + what);
}

tl::unexpected<Error> unsupported(const std::string& where, const std::string& what) {
  return error(ErrorCode::kUnsupported, where + ": " + what + " is not supported");
}

// nullptr where the key is absent, or null.
const Json* find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<bool> read_bool(const Json& object, const char* key, const std::string& where,
                       std::optional<bool> fallback = {}) {
  const Json* value = find(object, key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_boolean()) {
    return invalid(where, std::string("\"") + key + "\" must be true or false");
  }
  return value->get<bool>();
}

Result<std::string> read_string(const Json& object, const char* key, const std::string& where) {
  const Json* value = find(object, key);
  if (value == nullptr || !value->is_string()) {
    return invalid(where, std::string("\"") + key + "\" must be a string");
  }
  return value->get<std::string>();
}

Result<int64_t> read_id(const Json& value, const std::string& where) {
  // A parsed number that is not negative is unsigned.
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= Vocabulary::kMaxSize) {
    return invalid(where, "an id must be an integer from 0 to " + std::to_string(Vocabulary::kMaxSize - 1));
  }
  return value.get<int64_t>();
}

Result<const Json*> read_array(const Json& object, const char* key, const std::string& where) {
  const Json* value = find(object, key);
  if (value == nullptr || !value->is_array()) {
    return invalid(where, std::string("\"") + key + "\" must be an array");
  }
  return value;
}

// ---- model ----

Status check_model_options(const Json& model) {
  const std::string where = "model";
  if (const Json* type = find(model, "type"); type != nullptr && *type != "BPE") {
    return unsupported(where, "type " + type->dump());
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const Json* value = find(model, key); value != nullptr && *value != Json("")) {
      return unsupported(where, std::string(key) + " " + value->dump());
    }
  }
  if (const Json* dropout = find(model, "dropout"); dropout != nullptr && *dropout != 0) {
    return unsupported(where, "dropout " + dropout->dump());
  }
  NF_TRY(const bool byte_fallback, read_bool(model, "byte_fallback", where, false));
  if (byte_fallback) return unsupported(where, "byte_fallback");
  return {};
}

Status read_vocabulary(const Json& model, Vocabulary& vocabulary) {
  const Json* vocab = find(model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) return invalid("model", "\"vocab\" must be an object");
  vocabulary.reserve(vocab->size());
  for (const auto& item : vocab->items()) {
    NF_TRY(const int64_t id, read_id(item.value(), "model: vocab \"" + item.key() + "\""));
    if (auto added = vocabulary.add(item.key(), id); !added) return invalid("model", added.error().message);
  }
  return {};
}

// "left right", or ["left", "right"].
std::optional<std::pair<std::string_view, std::string_view>> parts_of_merge(const Json& merge) {
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) return {};
    return std::pair{text.substr(0, space), text.substr(space + 1)};
  }
  if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) return {};
  return std::pair<std::string_view, std::string_view>{merge[0].get_ref<const std::string&>(),
                                                       merge[1].get_ref<const std::string&>()};
}

Result<std::vector<Merge>> read_merges(const Json& model, const Vocabulary& vocabulary) {
  NF_TRY(const Json* list, read_array(model, "merges", "model"));
  std::vector<Merge> merges;
  merges.reserve(list->size());
  for (const Json& item : *list) {
    // Files of old begin their merges with "#version: 0.2".
    if (item.is_string() && item.get_ref<const std::string&>().starts_with("#version")) continue;
    const std::string where = "model: merge " + std::to_string(merges.size());
    const auto parts = parts_of_merge(item);
    if (!parts) return invalid(where, "expected \"left right\" or [\"left\", \"right\"]");
    const auto left = vocabulary.find(parts->first);
    const auto right = vocabulary.find(parts->second);
    const auto merged = vocabulary.find(std::string(parts->first).append(parts->second));
    if (!left || !right || !merged) {
      return invalid(where, "\"" + std::string(parts->first) + "\", \"" + std::string(parts->second) +
                                "\" and their union must all be in the vocabulary");
    }
    merges.push_back({*left, *right, *merged});
  }
  return merges;
}

// Whether well-formed UTF-8 can hold this byte.
bool occurs_in_utf8(size_t byte) {
  return byte < 0xC0 || (byte >= 0xC2 && byte <= 0xF4);
}

Result<std::array<int32_t, 256>> find_byte_ids(const Vocabulary& vocabulary) {
  std::array<int32_t, 256> ids{};
  for (size_t byte = 0; byte < ids.size(); ++byte) {
    const std::string spelling = spelling_of_bytes(std::string(1, static_cast<char>(byte)));
    const auto id = vocabulary.find(spelling);
    if (!id && occurs_in_utf8(byte)) {
      return unsupported("model", "a vocabulary without a token for each byte (\"" + spelling + "\")");
    }
    ids[byte] = id.value_or(-1);
  }
  return ids;
}

Result<Bpe> read_bpe(const Json& model, const Vocabulary& vocabulary) {
  NF_TRY(const std::vector<Merge> merges, read_merges(model, vocabulary));
  NF_TRY(const auto byte_ids, find_byte_ids(vocabulary));
  NF_TRY(const bool ignore_merges, read_bool(model, "ignore_merges", "model", false));
  std::vector<std::pair<std::string, int32_t>> whole_words;
  if (ignore_merges) {
    whole_words.reserve(static_cast<size_t>(vocabulary.num_tokens()));
    for (int32_t id = 0; id < vocabulary.size(); ++id) {
      const Vocabulary::Entry* entry = vocabulary.entry(id);
      if (entry != nullptr && entry->spells_bytes) whole_words.emplace_back(entry->bytes, id);
    }
  }
  return Bpe(byte_ids, merges, std::move(whole_words));
}

// ---- added tokens ----

Result<AddedToken> read_added_token(const Json& item, const std::string& where) {
  if (!item.is_object()) return invalid(where, "expected an object");
  AddedToken token;
  NF_TRY(token.content, read_string(item, "content", where));
  NF_TRY(token.single_word, read_bool(item, "single_word", where));
  NF_TRY(token.lstrip, read_bool(item, "lstrip", where));
  NF_TRY(token.rstrip, read_bool(item, "rstrip", where));
  NF_TRY(token.normalized, read_bool(item, "normalized", where));
  NF_TRY(token.special, read_bool(item, "special", where));
  const Json* id = find(item, "id");
  if (id == nullptr) return invalid(where, "\"id\" is missing");
  NF_TRY(const int64_t value, read_id(*id, where));
  token.id = static_cast<int32_t>(value);
  return token;
}

// The package numbers the tokens that the model has not from the model's size upwards, whatever the file
// says. A file that says otherwise would get one numbering here and another there: it is refused.
Result<std::vector<AddedToken>> read_added_tokens(const Json& root, Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  if (find(root, "added_tokens") == nullptr) return tokens;
  NF_TRY(const Json* list, read_array(root, "added_tokens", "tokenizer"));
  int32_t next_id = vocabulary.num_tokens();
  for (const Json& item : *list) {
    const std::string where = "added_tokens[" + std::to_string(tokens.size()) + "]";
    NF_TRY(AddedToken token, read_added_token(item, where));
    const auto in_model = vocabulary.find(token.content);
    const int32_t id = in_model ? *in_model : next_id++;
    if (id != token.id) {
      return invalid(where, "\"" + token.content + "\" has id " + std::to_string(token.id) + ", expected " +
                                std::to_string(id));
    }
    if (!in_model) {
      if (auto added = vocabulary.add(token.content, id); !added)
        return invalid(where, added.error().message);
    }
    vocabulary.mark_added(id, token.special);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// ---- the steps around the model ----

// The leaves of nested {"type": "Sequence", <key>: [...]}, in order.
Status flatten_sequence(const Json& item, const char* key, const std::string& where, int depth,
                        std::vector<const Json*>& steps) {
  if (!item.is_object()) return invalid(where, "expected an object");
  NF_TRY(const std::string type, read_string(item, "type", where));
  if (type != "Sequence") {
    steps.push_back(&item);
    return {};
  }
  if (depth == kMaxSequenceDepth) return unsupported(where, "a Sequence nested this deep");
  NF_TRY(const Json* list, read_array(item, key, where));
  for (const Json& step : *list) NF_RETURN_IF_ERROR(flatten_sequence(step, key, where, depth + 1, steps));
  return {};
}

Result<std::vector<const Json*>> read_steps(const Json& root, const char* name, const char* key) {
  std::vector<const Json*> steps;
  if (const Json* item = find(root, name)) NF_RETURN_IF_ERROR(flatten_sequence(*item, key, name, 0, steps));
  return steps;
}

Result<SplitBehavior> read_behavior(const Json& step, const std::string& where) {
  constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kBehaviors = {{
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  }};
  NF_TRY(const std::string name, read_string(step, "behavior", where));
  for (const auto& [known, behavior] : kBehaviors) {
    if (known == name) return behavior;
  }
  return unsupported(where, "behavior \"" + name + "\"");
}

Result<Split> read_split(const Json& step) {
  const std::string where = "pre_tokenizer: Split";
  NF_TRY(const SplitBehavior behavior, read_behavior(step, where));
  NF_TRY(const bool invert, read_bool(step, "invert", where));
  const Json* pattern = find(step, "pattern");
  if (pattern == nullptr || !pattern->is_object() || pattern->size() != 1) {
    return invalid(where, "\"pattern\" must be {\"Regex\": ...} or {\"String\": ...}");
  }
  const bool is_regex = pattern->contains("Regex");
  NF_TRY(const std::string text, read_string(*pattern, is_regex ? "Regex" : "String", where));
  auto regex = is_regex ? SplitRegex::from_pattern(text) : SplitRegex::from_literal(text);
  if (!regex) return error(regex.error().code, where + ": " + regex.error().message);
  return Split{std::move(*regex), behavior, invert};
}

Result<Split> read_digits(const Json& step) {
  NF_TRY(const bool individual, read_bool(step, "individual_digits", "pre_tokenizer: Digits"));
  NF_TRY(SplitRegex regex, SplitRegex::from_pattern(R"(\p{N})"));
  return Split{std::move(regex), individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false};
}

Result<PreTokenizer> read_pre_tokenizer(const Json& root) {
  const std::string where = "pre_tokenizer";
  NF_TRY(const std::vector<const Json*> steps, read_steps(root, "pre_tokenizer", "pretokenizers"));
  std::vector<Split> splits;
  for (const Json* step : steps) {
    NF_TRY(const std::string type, read_string(*step, "type", where));
    if (type == "ByteLevel") {
      if (step != steps.back()) return unsupported(where, "a step after ByteLevel");
      NF_TRY(const bool add_prefix_space, read_bool(*step, "add_prefix_space", where));
      NF_TRY(const bool use_regex, read_bool(*step, "use_regex", where, true));
      std::optional<SplitRegex> regex;
      if (use_regex) {
        NF_TRY(regex, SplitRegex::from_pattern(kGpt2Pattern));
      }
      return PreTokenizer(std::move(splits), add_prefix_space, std::move(regex));
    }
    if (type == "Split") {
      NF_TRY(Split split, read_split(*step));
      splits.push_back(std::move(split));
    } else if (type == "Digits") {
      NF_TRY(Split split, read_digits(*step));
      splits.push_back(std::move(split));
    } else {
      return unsupported(where, "type \"" + type + "\"");
    }
  }
  return unsupported(where, "a pre-tokenizer that does not end in ByteLevel");
}

Status check_decoder(const Json& root) {
  const std::string where = "decoder";
  NF_TRY(const std::vector<const Json*> steps, read_steps(root, "decoder", "decoders"));
  if (steps.empty()) return unsupported(where, "none (byte-level BPE has ByteLevel)");
  for (const Json* step : steps) {
    NF_TRY(const std::string type, read_string(*step, "type", where));
    // ByteLevel joins its tokens to one string, so that a Fuse after it has nothing to do.
    if (type != (step == steps.front() ? "ByteLevel" : "Fuse"))
      return unsupported(where, "type \"" + type + "\"");
  }
  return {};
}

Result<std::vector<int32_t>> read_template_token(const Json& step, const Json& piece,
                                                 const Vocabulary& vocabulary) {
  const std::string where = "post_processor: TemplateProcessing";
  NF_TRY(const std::string name, read_string(piece, "id", where));
  const Json* tokens = find(step, "special_tokens");
  const Json* token = tokens != nullptr && tokens->is_object() ? find(*tokens, name.c_str()) : nullptr;
  if (token == nullptr || !token->is_object()) {
    return invalid(where, "special token \"" + name + "\" is not in \"special_tokens\"");
  }
  NF_TRY(const Json* list, read_array(*token, "ids", where));
  std::vector<int32_t> ids;
  for (const Json& item : *list) {
    NF_TRY(const int64_t id, read_id(item, where));
    if (vocabulary.entry(id) == nullptr) return invalid(where, "no token has id " + std::to_string(id));
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

Status read_template(const Json& step, TokenizerParts& parts) {
  const std::string where = "post_processor: TemplateProcessing";
  NF_TRY(const Json* pieces, read_array(step, "single", where));
  bool seen_sequence = false;
  for (const Json& piece : *pieces) {
    if (!piece.is_object() || piece.size() != 1)
      return invalid(where, "a piece must be an object of one key");
    const auto [kind, value] = std::pair{piece.begin().key(), piece.begin().value()};
    if (!value.is_object()) return invalid(where, "a piece must hold an object");
    if (kind == "SpecialToken") {
      NF_TRY(const std::vector<int32_t> ids, read_template_token(step, value, parts.vocabulary));
      std::vector<int32_t>& side = seen_sequence ? parts.suffix_ids : parts.prefix_ids;
      side.insert(side.end(), ids.begin(), ids.end());
      continue;
    }
    const Json* id = find(value, "id");
    if (kind != "Sequence" || id == nullptr || *id != "A" || seen_sequence) {
      return unsupported(where, "piece " + piece.dump() + " in \"single\"");
    }
    seen_sequence = true;
  }
  if (!seen_sequence) return unsupported(where, "\"single\" without the text itself");
  return {};
}

Status read_post_processor(const Json& root, TokenizerParts& parts) {
  const std::string where = "post_processor";
  NF_TRY(const std::vector<const Json*> steps, read_steps(root, "post_processor", "processors"));
  bool seen_template = false;
  for (const Json* step : steps) {
    NF_TRY(const std::string type, read_string(*step, "type", where));
    if (type == "TemplateProcessing") {
      // What the package makes of a second template depends on the first one's pieces.
      if (std::exchange(seen_template, true)) return unsupported(where, "a second TemplateProcessing");
      NF_RETURN_IF_ERROR(read_template(*step, parts));
    } else if (type != "ByteLevel") {  // which changes offsets, not ids
      return unsupported(where, "type \"" + type + "\"");
    }
  }
  return {};
}

Result<TokenizerParts> read_parts(const Json& root) {
  if (!root.is_object()) return invalid("tokenizer", "expected an object");
  if (const Json* version = find(root, "version"); version != nullptr && *version != "1.0") {
    return unsupported("tokenizer", "version " + version->dump());
  }
  NF_TRY(const std::vector<const Json*> normalizers, read_steps(root, "normalizer", "normalizers"));
  if (!normalizers.empty()) return unsupported("normalizer", (*normalizers.front())["type"].dump());
  const Json* model = find(root, "model");
  if (model == nullptr || !model->is_object()) return invalid("tokenizer", "\"model\" must be an object");
  NF_RETURN_IF_ERROR(check_model_options(*model));

  Vocabulary vocabulary;
  NF_RETURN_IF_ERROR(read_vocabulary(*model, vocabulary));
  NF_TRY(Bpe bpe, read_bpe(*model, vocabulary));
  NF_TRY(std::vector<AddedToken> tokens, read_added_tokens(root, vocabulary));
  const auto first_normalized = std::stable_partition(
      tokens.begin(), tokens.end(), [](const AddedToken& token) { return !token.normalized; });
  NF_TRY(AddedTokenFinder normalized, AddedTokenFinder::build({first_normalized, tokens.end()}));
  tokens.erase(first_normalized, tokens.end());
  NF_TRY(AddedTokenFinder added, AddedTokenFinder::build(std::move(tokens)));
  NF_TRY(PreTokenizer pre_tokenizer, read_pre_tokenizer(root));
  NF_RETURN_IF_ERROR(check_decoder(root));
  TokenizerParts parts{std::move(vocabulary),
                       std::move(bpe),
                       std::move(added),
                       std::move(normalized),
                       std::move(pre_tokenizer),
                       {},
                       {}};
  NF_RETURN_IF_ERROR(read_post_processor(root, parts));
  return parts;
}

}  // namespace

Result<TokenizerParts> read_tokenizer_json(std::string_view text) {
  NF_TRY(const Json root, io::parse_sorted_json(text));
  return read_parts(root);
}

}  // namespace nemoforge::text
