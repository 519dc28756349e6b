// Any regular expression, EBNF or JSON schema, of a document or of a tool's argument: it compiles or is a
// clear error, and what a walk along its masks writes is accepted byte by byte as well, and under a schema is
// JSON that does not break it.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/rng.h"
#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "io/json.h"
#include "io/json_schema.h"

namespace {

using namespace nemoforge;
using grammar::Grammar;
using grammar::Matcher;

constexpr int32_t kEos = 300;
constexpr int kMaxTokens = 48;

// Every byte, some longer tokens, unused ids, end of sequence.
std::shared_ptr<const grammar::TokenTrie> make_trie() {
  static std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* token :
       {"{\"", "\":", "\",", "\"}", "true", "null", "[[", "]]", "}}", "abc", "\n  ", "\xC3\xA9t"})
    tokens.emplace_back(token);
  tokens.resize(kEos + 1);
  return std::make_shared<const grammar::TokenTrie>(
      std::vector<std::string_view>(tokens.begin(), tokens.end()), std::vector<int32_t>{kEos});
}

Result<Grammar> compile(int language, std::string_view source) {
  if (language == 0) return grammar::from_regex(source);
  if (language == 1) return grammar::from_ebnf(source);
  const auto schema = io::parse_json(source);
  if (!schema) return forward_error(schema);
  if (language == 2) return grammar::from_json_schema(*schema);
  const io::Json parameters = {{"properties", {{"v", *schema}}}, {"required", {"v"}}};
  const io::Json function = {{"name", "f"}, {"parameters", parameters}, {"strict", language == 3}};
  return grammar::from_tool_calls(io::Json::array({{{"function", function}}}), "", false);
}

// One of the allowed tokens; often one that ends something, so that walks end. -1: none is allowed.
int32_t choose(std::span<const uint32_t> mask, Rng& random) {
  const auto is_allowed = [&](int32_t id) {
    return (mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0;
  };
  std::vector<int32_t> closing;
  std::vector<int32_t> allowed;
  for (int32_t id = 0; id <= kEos; ++id) {
    if (!is_allowed(id)) continue;
    allowed.push_back(id);
    if (id == kEos ||
        (id < 128 && std::string_view("\"}]:,)").find(static_cast<char>(id)) != std::string_view::npos))
      closing.push_back(id);
  }
  const auto& among = !closing.empty() && random.below(2) == 0 ? closing : allowed;
  return among.empty() ? -1 : among[random.below(among.size())];
}

// `schema`: of the text; null where it is no JSON.
void walk(const std::shared_ptr<const Grammar>& grammar, Rng& random, const io::Json* schema) {
  static const auto trie = make_trie();
  Matcher matcher(grammar, trie);
  Matcher by_byte(grammar, trie);
  std::string text;
  for (int i = 0; i < kMaxTokens; ++i) {
    const auto mask = matcher.mask();
    if (!mask) {
      NF_CHECK(mask.error().code == ErrorCode::kUnsupported);
      return;
    }
    const int32_t id = choose(*mask, random);
    if (id < 0) return;
    NF_CHECK(matcher.accept(id).has_value());
    if (id == kEos) {
      NF_CHECK(by_byte.is_accepting()) << text;
      if (schema == nullptr) return;
      const auto json = io::parse_json(text, {.max_depth = 512});
      NF_CHECK(json.has_value()) << text;
      NF_CHECK(io::may_be_valid(*json, *schema, *schema)) << text;
      return;
    }
    for (const char byte : trie->bytes(id)) {
      if (!by_byte.mask()) return;
      NF_CHECK(by_byte.accept(static_cast<uint8_t>(byte)).has_value()) << text;
      text += byte;
    }
    NF_CHECK(matcher.is_accepting() == by_byte.is_accepting()) << text;
  }
}

}  // namespace

// The first byte chooses the language, the second the walks.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const int language = data[0] % 5;
  const std::string_view source(reinterpret_cast<const char*>(data) + 2, size - 2);
  auto compiled = compile(language, source);
  if (!compiled) {
    NF_CHECK(!compiled.error().message.empty());
    return 0;
  }
  const auto grammar = std::make_shared<const Grammar>(*std::move(compiled));
  Rng random(data[1]);
  const auto schema = language == 2 ? io::parse_json(source) : Result<io::Json>(nullptr);
  for (int i = 0; i < 3; ++i) walk(grammar, random, language == 2 ? &*schema : nullptr);
  return 0;
}
