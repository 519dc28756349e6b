// What a forced call may be, read back: a grammar of a tool writes text, the parser reads it, and the
// arguments are valid under the tool's schema.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "io/json_schema.h"
#include "text/tool_calls.h"

namespace nemoforge::server {
namespace {

using grammar::Grammar;
using grammar::Matcher;
using io::Json;

constexpr int kWalks = 60;
constexpr int kMaxTokens = 400;

// Every byte, the pieces that calls are made of, and the end of the sequence.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> closing;  // what ends something
  std::shared_ptr<const grammar::TokenTrie> trie;
  int32_t eos = 0;

  Vocabulary() {
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    for (const char* token :
         {"\n</parameter>", "\n</parameter>\n", "</function>", "\n</tool_call>", "\"", "}", "]", "\n"}) {
      closing.push_back(static_cast<int32_t>(tokens.size()));
      tokens.emplace_back(token);
    }
    for (const char* token :
         {"<tool_call>", "</",      "<",   "<parameter=", "</parameter>", "null", "None", "true",
          "False",       "\"red\"", "red", "12",          "-3",           ".5",   "[1",   "{\"a\"",
          ": ",          ", ",      "\\n", "\\",          "\xC3\xA9",     " "})
      tokens.emplace_back(token);
    eos = static_cast<int32_t>(tokens.size());
    closing.push_back(eos);
    tokens.emplace_back();
    trie = std::make_shared<const grammar::TokenTrie>(
        std::vector<std::string_view>(tokens.begin(), tokens.end()), std::vector<int32_t>{eos});
  }
};

const Vocabulary& vocabulary() {
  static const Vocabulary kVocabulary;
  return kVocabulary;
}

// A text of the grammar; nothing where the walk does not come to an end.
std::optional<std::string> walk(const std::shared_ptr<const Grammar>& grammar, Rng& random) {
  const Vocabulary& words = vocabulary();
  Matcher matcher(grammar, words.trie);
  std::string text;
  for (int i = 0; i < kMaxTokens; ++i) {
    const auto mask = matcher.mask();
    if (!mask) {
      ADD_FAILURE() << mask.error().to_string();
      return std::nullopt;
    }
    const auto is_allowed = [&](int32_t id) {
      return ((*mask)[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0;
    };
    std::vector<int32_t> allowed;
    std::vector<int32_t> ends;
    for (int32_t id = 0; id <= words.eos; ++id)
      if (is_allowed(id)) allowed.push_back(id);
    for (const int32_t id : words.closing)
      if (is_allowed(id)) ends.push_back(id);
    if (allowed.empty()) {
      ADD_FAILURE() << "nothing may follow " << text;
      return std::nullopt;
    }
    const bool wants_end = !ends.empty() && random.below(i < 40 ? 4 : 2) == 0;
    // Of whole tokens rather than of bytes, where there are.
    if (!wants_end && allowed.back() >= 256 && random.below(2) == 0)
      std::erase_if(allowed, [](int32_t id) { return id < 256; });
    const auto& among = wants_end ? ends : allowed;
    const int32_t id = among[random.below(among.size())];
    EXPECT_TRUE(matcher.accept(id));
    if (id == words.eos) return text;
    text += words.tokens[static_cast<size_t>(id)];
  }
  return std::nullopt;
}

bool matches(const Grammar& grammar, const std::string& text) {
  Matcher matcher(std::make_shared<const Grammar>(grammar), vocabulary().trie);
  for (const char c : text) {
    if (!matcher.accept(static_cast<unsigned char>(c))) return false;
  }
  return matcher.is_accepting();
}

Json tools_with(const Json& parameters, bool is_strict) {
  return Json::array({{{"type", "function"},
                       {"function", {{"name", "f"}, {"strict", is_strict}, {"parameters", parameters}}}}});
}

// Schemas as pydantic, zod and OpenAPI write them.
constexpr const char* kSchemas[] = {
    R"({"type": "string"})",
    R"({"$ref": "#/$defs/Color"})",
    R"({"enum": ["red", "blue"]})",
    R"({"const": "red"})",
    R"({"const": "red", "type": "string"})",
    R"({"enum": ["1", 2, null, true, "true", ["a"], {"b": "</parameter>"}]})",
    R"({"enum": [1, 2, 3], "type": "integer"})",
    R"({"enum": ["a", 1, null], "type": ["string", "null"]})",
    R"({"enum": ["", " padded ", "two\nlines", "\"quoted\"", "null", "5"], "type": "string"})",
    R"({"anyOf": [{"type": "string"}, {"type": "null"}], "default": null})",
    R"({"anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}], "default": null})",
    R"({"anyOf": [{"enum": ["5", "null", "[1]"], "type": "string"}, {"type": "boolean"}, {"type": "null"}]})",
    R"({"anyOf": [{"enum": ["5", "6"]}, {"type": "integer", "minimum": 10}, {"type": "array", "items": {"type": "null"}}]})",
    R"({"anyOf": [{"type": "integer"}, {"type": "string"}]})",
    R"({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "^[0-9]-[0-9]$"}, {"type": "boolean"}]})",
    R"({"type": ["string", "null"]})",
    R"({"type": ["string", "integer"], "minimum": 3, "maxLength": 4})",
    R"({"type": "string", "nullable": true})",
    R"({"type": "string", "pattern": "^[0-9]{3}$"})",
    R"({"type": "string", "pattern": "b+"})",
    R"({"type": "string", "pattern": "^[A-Z]{3}$", "minLength": 3, "maxLength": 3})",
    R"({"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 5})",
    R"({"type": "string", "minLength": 1})",
    R"({"type": "string", "minLength": 2, "maxLength": 4})",
    R"({"type": "string", "maxLength": 65535})",
    R"({"type": "string", "format": "date"})",
    R"({"type": "string", "format": "date-time"})",
    R"({"type": "string", "format": "time"})",
    R"({"type": "string", "format": "duration"})",
    R"({"type": "string", "format": "email"})",
    R"({"type": "string", "format": "uuid"})",
    R"({"type": "string", "format": "ipv4"})",
    R"({"type": "string", "format": "ipv6"})",
    R"({"type": "string", "format": "hostname"})",
    R"({"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083})",
    R"({"type": "string", "format": "path"})",
    R"({"type": "integer", "minimum": 1, "maximum": 5})",
    R"({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 1000})",
    R"({"type": "integer", "minimum": -12, "maximum": 137, "multipleOf": 1})",
    R"({"type": "integer", "minimum": 1.5})",
    R"({"type": "number", "minimum": 0, "maximum": 1})",
    R"({"type": "number", "exclusiveMinimum": -2.5, "maximum": 17.25})",
    R"({"type": "number"})",
    R"({"type": "boolean"})",
    R"({"type": "null"})",
    R"({})",
    R"({"type": "array", "items": {"$ref": "#/$defs/Color"}, "minItems": 1, "maxItems": 3})",
    R"({"type": "array", "items": {"type": "string"}})",
    R"({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2})",
    R"({"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "null"}, "maxItems": 3})",
    R"({"type": "object", "additionalProperties": {"type": "integer", "maximum": 9}})",
    R"({"type": "object", "properties": {"a </": {"type": "string", "pattern": "^</parameter>$"}}, "required": ["a </"]})",
    R"({"$ref": "#/$defs/Node"})",
    R"({"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "description": "x"})",
    R"({"discriminator": {"propertyName": "kind"}, "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]})",
    R"({"allOf": [{"$ref": "#/$defs/Cat"}], "description": "x"})",
    R"({"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 4}]})",
    R"({"type": "object", "properties": {"a": {"type": "null"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]})",
    R"({"type": "string", "anyOf": [{"enum": ["a"]}, {"enum": ["b", 3]}]})",
    R"({"$ref": "#/$defs/Color", "default": "red", "enum": ["blue", "green"]})",
    R"({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^(?!-)[0-9]$"}]})",
};

constexpr const char* kDefinitions = R"({
    "Color": {"enum": ["red", "blue"], "title": "Color", "type": "string"},
    "Cat": {"type": "object", "properties": {"kind": {"const": "cat", "type": "string"}, "lives": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["kind", "lives"]},
    "Dog": {"type": "object", "properties": {"kind": {"const": "dog", "type": "string"}, "name": {"type": "string"}},
            "required": ["kind", "name"]},
    "Node": {"type": "object", "properties": {"label": {"anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}]},
             "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}, "required": ["label", "next"], "additionalProperties": false}})";

TEST(ToolRoundTrip, arguments_of_a_strict_function_are_valid_under_its_schema) {
  Rng random(20261124);
  for (const char* schema : kSchemas) {
    const Json parameters = {{"type", "object"},
                             {"properties", {{"v", *io::parse_json(schema)}, {"w", {{"type", "string"}}}}},
                             {"required", {"v"}},
                             {"additionalProperties", false},
                             {"$defs", *io::parse_json(kDefinitions)}};
    const Json tools = tools_with(parameters, true);
    const auto compiled = grammar::from_tool_calls(tools, "", false);
    ASSERT_TRUE(compiled) << schema << ": " << compiled.error().to_string();
    const auto grammar = std::make_shared<const Grammar>(*compiled);
    const auto tool_schemas = std::make_shared<const text::ToolSchemas>(*text::ToolSchemas::from_json(tools));
    Json document = *io::parse_json(schema);
    document["$defs"] = parameters["$defs"];
    const auto judge = grammar::from_json_schema(document);
    ASSERT_TRUE(judge) << schema << ": " << judge.error().to_string();
    int num_finished = 0;
    for (int i = 0; i < kWalks; ++i) {
      const auto written = walk(grammar, random);
      if (!written) continue;
      ++num_finished;
      const text::ParsedAnswer answer = text::parse_tool_calls(*written, tool_schemas);
      ASSERT_EQ(answer.calls.size(), 1u) << *written;
      EXPECT_TRUE(answer.calls[0].complete) << *written;
      EXPECT_EQ(answer.content, "") << *written;
      const auto arguments = io::parse_json(answer.calls[0].arguments, {.max_depth = 512});
      ASSERT_TRUE(arguments) << *written << "\n" << answer.calls[0].arguments;
      EXPECT_TRUE(io::may_be_valid(*arguments, parameters, parameters)) << schema << "\n"
                                                                        << *written << "\n"
                                                                        << answer.calls[0].arguments;
      // What that does not look at. (A JSON string with a pattern has no control characters; an argument
      // may.)
      std::string value = io::dump_json((*arguments)["v"]);
      for (size_t at = value.find("\\u00"); at != std::string::npos; at = value.find("\\u00", at))
        value.erase(at, 6);
      const std::string_view keywords(schema);
      if (keywords.find("pattern") != std::string_view::npos ||
          keywords.find("format") != std::string_view::npos) {
        EXPECT_TRUE(matches(*judge, value)) << schema << "\n" << value;
      }
    }
    EXPECT_GT(num_finished, kWalks / 6) << schema;
  }
}

// The values that a schema is there for can be written.
TEST(ToolRoundTrip, values_come_back_as_they_were_meant) {
  struct Case {
    const char* schema;
    const char* text;  // null: the grammar does not allow it
    const char* argument;
  };
  const Case cases[] = {
      {R"({"$ref": "#/$defs/Color"})", "red", R"("red")"},
      {R"({"$ref": "#/$defs/Color"})", "\"red\"", nullptr},
      {R"({"anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}]})", "null", "null"},
      {R"({"anyOf": [{"enum": ["5"]}, {"type": "integer", "minimum": 10}]})", "5", R"("5")"},
      {R"({"anyOf": [{"enum": ["5"]}, {"type": "integer", "minimum": 10}]})", "15", "15"},
      {R"({"anyOf": [{"enum": ["5"]}, {"type": "integer", "minimum": 10}]})", "7", nullptr},
      {R"({"type": ["string", "null"]})", "two\nlines", R"("two\nlines")"},
      {R"({"type": "string", "pattern": "^[0-9]{3}$"})", "123", R"("123")"},
      {R"({"type": "string", "pattern": "^[0-9]{3}$"})", "1234", nullptr},
      {R"({"type": "string", "maxLength": 3})", "abcd", nullptr},
      {R"({"type": "string"})", "a </b> <parameter>\n </function>\n<",
       R"("a </b> <parameter>\n </function>\n<")"},
      {R"({"type": "string"})", "a</parameter>", nullptr},
      {R"({"type": "string"})", "a\n<parameter=x>", nullptr},
      {R"({"type": "string"})", "</function></tool_call>", nullptr},
      {R"({"const": 1.5})", "1.5", "1.5"},
      {R"({"enum": ["1", 2]})", "1", R"("1")"},
      {R"({"enum": ["1", 2]})", "2", "2"},
      {R"({"type": "array", "items": {"type": "string"}})", R"(["<b", "<\/parameter>"])",
       R"(["<b", "<\/parameter>"])"},
      {R"({"type": "array", "items": {"type": "string"}})", R"(["</parameter>"])", nullptr},
      {R"({"type": "string", "format": "email"})", "ada@example.org", R"("ada@example.org")"},
      {R"({"type": "string", "format": "uri"})", "https://example.org/a?b=1",
       R"("https://example.org/a?b=1")"},
      {R"({"type": "string", "format": "date-time"})", "2026-02-28T12:00:00Z", R"("2026-02-28T12:00:00Z")"},
      {R"({"type": "string", "format": "date"})", "2026-02-30", nullptr},
  };
  for (const Case& one : cases) {
    const Json parameters = {{"properties", {{"v", *io::parse_json(one.schema)}}},
                             {"required", {"v"}},
                             {"$defs", *io::parse_json(kDefinitions)}};
    const Json tools = tools_with(parameters, true);
    const auto grammar = grammar::from_tool_calls(tools, "", false);
    ASSERT_TRUE(grammar) << one.schema << ": " << grammar.error().to_string();
    const std::string call = std::string("<tool_call>\n<function=f>\n<parameter=v>\n") + one.text +
                             "\n</parameter>\n</function>\n</tool_call>";
    EXPECT_EQ(matches(*grammar, call), one.argument != nullptr) << one.schema << " " << one.text;
    if (one.argument == nullptr) continue;
    const auto schemas = std::make_shared<const text::ToolSchemas>(*text::ToolSchemas::from_json(tools));
    EXPECT_EQ(text::parse_tool_calls(call, schemas).calls.at(0).arguments,
              std::string("{\"v\": ") + one.argument + "}");
  }
}

TEST(ToolRoundTrip, a_schema_of_parameters_may_be_a_reference_and_name_what_it_does_not_list) {
  const Json parameters = *io::parse_json(R"({"$ref": "#/$defs/P", "$defs": {"P": {"type": "object",
      "properties": {"n": {"type": "integer"}}, "required": ["n", "other"]}}})");
  const Json tools = tools_with(parameters, true);
  const auto grammar = grammar::from_tool_calls(tools, "", false);
  ASSERT_TRUE(grammar) << grammar.error().to_string();
  const std::string call =
      "<tool_call>\n<function=f>\n<parameter=n>\n5\n</parameter>\n<parameter=other>\nx\n</parameter>\n</"
      "function>\n</tool_call>";
  EXPECT_TRUE(matches(*grammar, call));
  const auto schemas = std::make_shared<const text::ToolSchemas>(*text::ToolSchemas::from_json(tools));
  EXPECT_EQ(text::parse_tool_calls(call, schemas).calls.at(0).arguments, R"({"n": 5, "other": "x"})");
}

// What a model writes that nothing holds to the schema.
TEST(ToolRoundTrip, unforced_values_are_read_as_the_schema_allows) {
  struct Case {
    const char* schema;
    const char* text;
    const char* argument;
  };
  const Case cases[] = {
      {R"({"enum": ["red", "blue"], "type": "string"})", "\"red\"", R"("red")"},
      {R"({"enum": ["red", "blue"], "type": "string"})", "'red'", R"("red")"},
      {R"({"enum": ["red", "blue"], "type": "string"})", " red ", R"("red")"},
      {R"({"enum": ["red", "blue"], "type": "string"})", "green", R"("green")"},
      {R"({"anyOf": [{"enum": ["red"]}, {"type": "null"}]})", "\"red\"", R"("red")"},
      {R"({"anyOf": [{"enum": ["red"]}, {"type": "null"}]})", "None", "null"},
      {R"({"type": "string", "nullable": true})", "None", "null"},
      {R"({"type": "string", "nullable": true})", "text", R"("text")"},
      {R"({"anyOf": [{"type": "integer", "maximum": 5}, {"type": "string"}]})", "6", R"("6")"},
      {R"({"anyOf": [{"type": "integer", "maximum": 5}, {"type": "string"}]})", "5", "5"},
      {R"({"type": "string"})", "\"kept\"", R"("\"kept\"")"},
  };
  for (const Case& one : cases) {
    const Json tools = tools_with({{"properties", {{"v", *io::parse_json(one.schema)}}}}, false);
    const auto schemas = std::make_shared<const text::ToolSchemas>(*text::ToolSchemas::from_json(tools));
    const std::string call = std::string("<tool_call>\n<function=f>\n<parameter=v>\n") + one.text +
                             "\n</parameter>\n</function>\n</tool_call>";
    EXPECT_EQ(text::parse_tool_calls(call, schemas).calls.at(0).arguments,
              std::string("{\"v\": ") + one.argument + "}")
        << one.schema;
  }
}

TEST(ToolRoundTrip, a_keyword_that_cannot_be_enforced_leaves_the_type_of_a_function_that_is_not_strict) {
  const Json parameters = *io::parse_json(R"~({"properties": {"n": {"type": "integer", "multipleOf": 7},
      "s": {"type": "string", "pattern": "(?=a)"}}, "required": ["n", "s"]})~");
  EXPECT_FALSE(grammar::from_tool_calls(tools_with(parameters, true), "", false));
  const auto grammar = grammar::from_tool_calls(tools_with(parameters, false), "", false);
  ASSERT_TRUE(grammar) << grammar.error().to_string();
  const auto call = [](const std::string& n, const std::string& s) {
    return "<tool_call>\n<function=f>\n<parameter=n>\n" + n + "\n</parameter>\n<parameter=s>\n" + s +
           "\n</parameter>\n</function>\n</tool_call>";
  };
  EXPECT_TRUE(matches(*grammar, call("8", "b")));
  EXPECT_FALSE(matches(*grammar, call("eight", "b")));
}

}  // namespace
}  // namespace nemoforge::server
