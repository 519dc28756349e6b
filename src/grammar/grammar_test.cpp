#include "grammar/grammar.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "grammar/matcher.h"

namespace nemoforge::grammar {
namespace {

// Every byte, some longer tokens, one special token (no bytes) and the end-of-sequence token, in this order.
struct TestVocabulary {
  std::vector<std::string> tokens;
  std::shared_ptr<const TokenTrie> trie;
  int32_t eos = 0;

  TestVocabulary() {
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    for (const char* token :
         {"{\"", "\":", "\": ", "\",", "\"}",  "true", "false",    "null",      " \"", "12",  "[[",
          "]]",  "}}",  "abc",  "ab",  "name", "\n  ", "\xC3\xA9", "\xC3\xA9t", "\\n", "a\"", "Oslo"}) {
      tokens.emplace_back(token);
    }
    tokens.emplace_back();  // special
    eos = static_cast<int32_t>(tokens.size());
    tokens.emplace_back("<|im_end|>");
    std::vector<std::string_view> views(tokens.begin(), tokens.end());
    trie = std::make_shared<const TokenTrie>(views, std::vector<int32_t>{eos});
  }
};

const TestVocabulary& vocabulary() {
  static const TestVocabulary kVocabulary;
  return kVocabulary;
}

Matcher matcher_of(Result<Grammar> grammar) {
  EXPECT_TRUE(grammar) << grammar.error().to_string();
  return {std::make_shared<const Grammar>(*std::move(grammar)), vocabulary().trie};
}

// Whether the whole of `text` matches, byte by byte.
bool matches(Matcher matcher, std::string_view text) {
  for (const char c : text) {
    if (!matcher.accept(static_cast<unsigned char>(c))) return false;
  }
  return matcher.is_accepting();
}

void expect_matches(const Matcher& matcher, std::initializer_list<std::string_view> good,
                    std::initializer_list<std::string_view> bad) {
  for (const auto text : good) EXPECT_TRUE(matches(matcher, text)) << text;
  for (const auto text : bad) EXPECT_FALSE(matches(matcher, text)) << text;
}

Matcher schema_matcher(std::string_view schema) {
  const auto json = io::parse_json(schema);
  EXPECT_TRUE(json) << json.error().to_string();
  return matcher_of(from_json_schema(*json));
}

Error schema_error(std::string_view schema) {
  const auto grammar = from_json_schema(*io::parse_json(schema));
  EXPECT_FALSE(grammar) << schema;
  return grammar ? Error() : grammar.error();
}

TEST(Choice, takes_one_of_the_strings) {
  expect_matches(matcher_of(from_choice({"yes", "no", "nope"})), {"yes", "no", "nope"},
                 {"", "y", "nop", "yesno"});
  EXPECT_FALSE(from_choice({}));
  EXPECT_FALSE(from_choice({""}));
}

TEST(ToolCalls, have_the_xml_form_and_values_of_their_schema) {
  const auto tools = io::parse_json(R"([
    {"type": "function", "function": {"name": "set", "parameters": {"type": "object", "required": ["n"], "properties": {
      "n": {"type": "integer"}, "note": {"type": "string"}, "kind": {"type": "string", "enum": ["a", "b c"]},
      "list": {"$ref": "#/$defs/list"}}, "$defs": {"list": {"type": "array", "items": {"type": "boolean"}}}}}},
    {"type": "function", "function": {"name": "now"}}])");
  const std::string now = "<tool_call>\n<function=now>\n</function>\n</tool_call>";
  const std::string begin = "<tool_call>\n<function=set>\n<parameter=n>\n12\n</parameter>\n";
  const std::string end = "</function>\n</tool_call>";
  const auto note = [&](const std::string& text) {
    return begin + "<parameter=note>\n" + text + "\n</parameter>\n" + end;
  };
  const std::string list = begin + "<parameter=list>\n[true, false]\n</parameter>\n" + end;
  const std::string kind = begin + "<parameter=kind>\nb c\n</parameter>\n" + end;
  const std::string two = now + "\n" + now;
  expect_matches(matcher_of(from_tool_calls(*tools, "", true)),
                 {now, begin + end, list, kind, two, note("two\nlines < here"), note(""), note("<b>\n<")},
                 {"", "text", now + "\n", "<tool_call>\n<function=set>\n" + end, note("x\n</tool_call>"),
                  begin + "<parameter=kind>\nc\n</parameter>\n" + end});
  expect_matches(matcher_of(from_tool_calls(*tools, "now", false)), {now}, {begin + end, two});
  EXPECT_FALSE(from_tool_calls(*tools, "other", false));
  EXPECT_FALSE(from_tool_calls(io::Json::array(), "", false));
}

TEST(ToolCalls, what_cannot_be_enforced_is_an_error_of_a_strict_function_only) {
  auto tools = *io::parse_json(
      R"([{"function": {"name": "f", "parameters": {"properties": {"x": {"type": "integer", "multipleOf": 5}}}}}])");
  expect_matches(matcher_of(from_tool_calls(tools, "", false)),
                 {"<tool_call>\n<function=f>\n<parameter=x>\n7\n</parameter>\n</function>\n</tool_call>"},
                 {});
  tools[0]["function"]["strict"] = true;
  const auto refused = from_tool_calls(tools, "", false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "tools[0].function.parameters.properties.x.multipleOf: this keyword cannot be enforced here");
}

TEST(Regex, matches_the_whole_text) {
  expect_matches(matcher_of(from_regex(R"(^[a-c]{2,3}(x|yz)?\d+$)")), {"ab1", "abcx22", "ccyz0"},
                 {"a1", "abcd1", "abx", "ab1 ", "abxyz1"});
  expect_matches(matcher_of(from_regex(R"([^a\n]+\.)")), {"bc.", "\xC3\xA9.", "\xF0\x9F\x98\x80."},
                 {"a.", "\n.", ".", "\xC3.", "\xED\xA0\x80."});
  expect_matches(matcher_of(from_regex(".")), {"x", "\xE2\x82\xAC"}, {"", "\n", "xx", "\xE2\x82"});
  expect_matches(matcher_of(from_regex(R"((ab)*?\u0041[\]\-x-z]{2})")), {"A]-", "ababAyz"}, {"aA]-", "A]"});
}

TEST(Regex, every_code_point_range_is_exact) {
  const Matcher matcher = matcher_of(from_regex(R"([\u00e9-\u4e2d])"));
  const auto utf8 = [](uint32_t value) {
    std::string out;
    if (value < 0x80) return std::string(1, static_cast<char>(value));
    if (value < 0x800) {
      out += static_cast<char>(0xC0 | (value >> 6));
    } else {
      out += static_cast<char>(0xE0 | (value >> 12));
      out += static_cast<char>(0x80 | ((value >> 6) & 63));
    }
    out += static_cast<char>(0x80 | (value & 63));
    return out;
  };
  for (uint32_t value = 1; value < 0x6000; value += value < 0x900 ? 1 : 61) {
    EXPECT_EQ(matches(matcher, utf8(value)), value >= 0xE9 && value <= 0x4E2D) << value;
  }
  EXPECT_TRUE(matches(matcher, utf8(0x4E2D)));
  EXPECT_FALSE(matches(matcher, utf8(0x4E2E)));
}

TEST(Regex, says_what_it_does_not_do) {
  for (const char* pattern :
       {"(?=a)", "(?i)a", R"(\1)", R"(\bword)", "a^b", "a$b", "^a|b", "[[:alpha:]]", "a**"}) {
    const auto grammar = from_regex(pattern);
    ASSERT_FALSE(grammar) << pattern;
    EXPECT_EQ(grammar.error().code, ErrorCode::kUnsupported) << grammar.error().message;
  }
  for (const char* pattern : {"(a", "a)", "[a", "*", "a{2,1}", "a{99999}", "\\", "\\x1", "[z-a]", "\xFF"}) {
    const auto grammar = from_regex(pattern);
    ASSERT_FALSE(grammar) << pattern;
    EXPECT_EQ(grammar.error().code, ErrorCode::kInvalidArgument) << grammar.error().message;
  }
  EXPECT_FALSE(from_regex("((((a{1,9999}){1,9999}){1,9999}){1,9999})"));
}

TEST(Ebnf, follows_rules_that_call_each_other) {
  const Matcher matcher = matcher_of(from_ebnf(R"~(
# sums
root ::= sum
sum  ::= term (("+" | "-") term)*
term ::= [0-9]{1,3} | "(" sum ")"
       | "\"x\""
)~"));
  expect_matches(matcher, {"1", "1+22-333", "((1)+(2+3))", "\"x\"+1"}, {"", "1+", "1234", "((1)", "()"});
}

TEST(Ebnf, left_recursion_is_followed_too) {
  expect_matches(matcher_of(from_ebnf("root ::= root \"a\" | \"b\"")), {"b", "ba", "baaaa"},
                 {"a", "ab", "bb"});
}

TEST(Ebnf, errors_name_the_cause) {
  const auto message = [](const char* text) { return from_ebnf(text).error().message; };
  EXPECT_EQ(message("root ::= missing"), "grammar: the rule \"missing\" is not defined");
  EXPECT_EQ(message("start ::= \"a\""), "grammar: there is no rule \"root\"");
  EXPECT_NE(message("root ::= \"a\"\nroot ::= \"b\"").find("defined twice"), std::string::npos);
  EXPECT_NE(message("root ::= (\"a\"").find("expected )"), std::string::npos);
  EXPECT_NE(message("root ::= \"a").find("does not end"), std::string::npos);
  EXPECT_NE(message("root ::= [a").find("does not end"), std::string::npos);
  EXPECT_FALSE(from_ebnf("root = 1"));
}

TEST(JsonObject, takes_any_object) {
  expect_matches(matcher_of(from_json_object()),
                 {"{}", R"({"a": [1, -2.5e3, {"b": null}], "": "\u00e9\n\\"})", "{\n  \"a\": true\n}"},
                 {"[]", "{\"a\":}", "{\"a\" 1}", "{a: 1}", "{\"a\": 01}", "{\"a\": \"\n\"}", "{\"a\": 1,}",
                  "{}x", R"({"a": "\ud800"})"});
}

TEST(JsonSchema, objects_have_their_properties_in_order) {
  const Matcher matcher = schema_matcher(R"({"type": "object", "title": "T", "properties": {
      "name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"},
      "maxItems": 2}, "last": {"type": "boolean"}}, "required": ["age"], "additionalProperties": false})");
  expect_matches(
      matcher,
      {R"({"age": 1})", R"({"name": "x","age":-20,"tags":["a","b"],"last":true})",
       R"({"age":0,"last":false})"},
      {"{}", R"({"name": "x"})", R"({"age": 1, "name": "x"})", R"({"age": 1.5})", R"({"age": 1, "other": 2})",
       R"({"age":1,"tags":["a","b","c"]})", R"({"age":1,})", R"({,"age":1})"});
}

TEST(JsonSchema, enums_consts_unions_and_references) {
  const Matcher matcher = schema_matcher(R"({"type": "object", "properties": {
      "unit": {"enum": ["C", "F", 3, null]}, "kind": {"const": {"a": [1]}},
      "either": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/node"}]},
      "maybe": {"type": ["string", "null"], "minLength": 2}},
      "required": ["unit", "kind", "either", "maybe"],
      "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}})");
  expect_matches(matcher,
                 {R"({"unit":"F","kind":{"a":[1]},"either":1.5,"maybe":null})",
                  R"({"unit":3,"kind":{"a":[1]},"either":{"next":{"next":{}}},"maybe":"ab"})"},
                 {R"({"unit":"K","kind":{"a":[1]},"either":1.5,"maybe":null})",
                  R"({"unit":"C","kind":{"a":[1]},"either":{"next":1},"maybe":null})",
                  R"({"unit":"C","kind":{"a":[1]},"either":1,"maybe":"a"})"});
}

TEST(JsonSchema, strings_keep_length_pattern_and_format) {
  expect_matches(schema_matcher(R"({"type": "string", "minLength": 1, "maxLength": 3})"),
                 {R"("a")", R"("\n\"x")", "\"\xC3\xA9\xC3\xA9\xC3\xA9\""},
                 {R"("")", R"("abcd")", "\"\xC3\""});
  expect_matches(schema_matcher(R"({"type": "string", "pattern": "^a.\"$"})"), {R"("ab\"")"},
                 {R"("ab"")", R"("xab\"")"});
  expect_matches(schema_matcher(R"({"type": "string", "pattern": "b+"})"), {R"("abba")", R"("b")"},
                 {R"("aa")"});
  expect_matches(schema_matcher(R"({"type": "string", "format": "date"})"), {R"("2026-11-24")"},
                 {R"("2026-13-24")", R"("x2026-11-24")"});
  expect_matches(schema_matcher(R"({"type": "array", "items": {"type": "integer"}, "minItems": 2})"),
                 {"[1,2]", "[1, 2, 3]"}, {"[]", "[1]"});
  expect_matches(schema_matcher(R"({"type": "object", "additionalProperties": {"type": "null"}})"),
                 {"{}", R"({"x": null, "y": null})"}, {R"({"x": 1})"});
}

TEST(JsonSchema, names_the_keyword_that_it_cannot_enforce) {
  const auto error =
      schema_error(R"({"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 3}}})");
  EXPECT_EQ(error.code, ErrorCode::kUnsupported);
  EXPECT_TRUE(error.message.starts_with("schema.properties.n.multipleOf:")) << error.message;
  for (const char* schema :
       {R"({"not": {}})", R"({"type": "array", "uniqueItems": true})", R"({"$ref": "http://x"})",
        R"({"type": "object", "patternProperties": {}})",
        R"({"type": "string", "pattern": "a", "maxLength": 3})",
        R"({"type": "string", "pattern": "a", "format": "date"})",
        R"({"type": "string", "minLength": 10001})", R"({"allOf": [{"pattern": "a"}, {"pattern": "b"}]})",
        R"({"type": "integer", "minimum": 3, "maximum": 2})",
        R"({"anyOf": [{"not": {}}, {"type": "null"}]})"}) {
    EXPECT_EQ(schema_error(schema).code, ErrorCode::kUnsupported) << schema;
  }
  for (const char* schema :
       {"3", R"({"type": "text"})", R"({"$ref": "#/$defs/none"})", R"({"enum": []})",
        R"({"type": "string", "minLength": -1})", R"({"type": "array", "minItems": 3, "maxItems": 1})"}) {
    EXPECT_EQ(schema_error(schema).code, ErrorCode::kInvalidArgument) << schema;
  }
  std::string deep = "{}";
  for (int i = 0; i < 100; ++i) deep = R"({"items": )" + deep + "}";
  EXPECT_EQ(schema_error(deep).code, ErrorCode::kInvalidArgument);
}

// The mask is what accept() says of each token, along random walks that must end in JSON of the schema.
TEST(Matcher, mask_equals_accept_for_every_token) {
  const auto& words = vocabulary();
  const Matcher start =
      schema_matcher(R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 4},
      "n": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}}, "required": ["name"]})");
  Rng random(20261124);
  int num_finished = 0;
  for (int walk = 0; walk < 40; ++walk) {
    Matcher matcher = start;
    std::string text;
    for (int length = 0; length < 200; ++length) {
      const auto mask = matcher.mask();
      ASSERT_TRUE(mask);
      std::vector<int32_t> allowed;
      const std::vector<uint32_t> bits(mask->begin(), mask->end());
      for (int32_t id = 0; id < static_cast<int32_t>(words.tokens.size()); ++id) {
        const bool bit = (bits[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0;
        if (length < 6) {
          Matcher copy = matcher;
          ASSERT_EQ(copy.accept(id).has_value(), bit)
              << text << " then " << words.tokens[static_cast<size_t>(id)];
        }
        if (bit) allowed.push_back(id);
      }
      ASSERT_FALSE(allowed.empty()) << text;
      const int32_t id = allowed[random.below(allowed.size())];
      ASSERT_TRUE(matcher.accept(id));
      if (id == words.eos) {
        EXPECT_TRUE(io::parse_json(text)) << text;
        ++num_finished;
        break;
      }
      text += words.tokens[static_cast<size_t>(id)];
    }
  }
  EXPECT_GT(num_finished, 5);
}

TEST(Matcher, a_refused_token_changes_nothing) {
  Matcher matcher = matcher_of(from_choice({"ab"}));
  EXPECT_FALSE(matcher.accept('b'));
  EXPECT_FALSE(matcher.accept(vocabulary().eos));
  EXPECT_FALSE(matcher.accept(-1));
  EXPECT_FALSE(matcher.accept(vocabulary().eos - 1));
  EXPECT_TRUE(matcher.accept('a'));
  EXPECT_TRUE(matcher.accept('b'));
  EXPECT_TRUE(matcher.accept(vocabulary().eos));
}

TEST(Matcher, long_outputs_stay_within_the_bounds) {
  Matcher matcher = matcher_of(from_json_object());
  ASSERT_TRUE(matcher.accept('{'));
  // A nesting beyond the limit is not allowed, one below it is.
  for (const char c : std::string_view("\"a\":")) ASSERT_TRUE(matcher.accept(c));
  int depth = 0;
  while (depth < 1000 && matcher.accept('[')) {
    ASSERT_TRUE(matcher.mask());
    ++depth;
  }
  EXPECT_GT(depth, 50);
  EXPECT_LT(depth, 1000);
  for (; depth > 0; --depth) ASSERT_TRUE(matcher.accept(']')) << depth;
  ASSERT_TRUE(matcher.accept('}'));
  EXPECT_TRUE(matcher.is_accepting());
  // Many different states.
  Matcher counted = matcher_of(from_regex("[a-z]{0,5000}"));
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(counted.mask()) << i;
    ASSERT_TRUE(counted.accept('a')) << i;
  }
  EXPECT_FALSE(counted.accept('a'));
}

// Written out, this would be 10^12 times nothing.
TEST(Grammar, repetitions_of_nothing_end) {
  EXPECT_TRUE(matches(matcher_of(from_regex("a(((){10000}){10000}){10000}b")), "ab"));
  EXPECT_TRUE(matches(matcher_of(from_ebnf("root ::= \"a\" (((\"\"){10000}){10000}){10000} \"b\"")), "ab"));
}

// Places that many places lead to are looked at once a byte, not once for each of those.
TEST(Matcher, nested_repetitions_are_followed_in_time) {
  Matcher matcher = matcher_of(from_regex("([a-z]{0,38}){0,38}"));
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(matcher.mask()) << i;
    ASSERT_TRUE(matcher.accept('a')) << i;
  }
  EXPECT_TRUE(matcher.is_accepting());
}

}  // namespace
}  // namespace nemoforge::grammar
