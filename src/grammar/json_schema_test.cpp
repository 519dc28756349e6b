#include "grammar/json_schema.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "io/json_schema.h"

namespace nemoforge::grammar {
namespace {

using io::Json;

std::shared_ptr<const TokenTrie> byte_trie() {
  static const std::vector<std::string> kBytes = [] {
    std::vector<std::string> bytes;
    for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
    bytes.emplace_back();
    return bytes;
  }();
  static const auto kTrie = std::make_shared<const TokenTrie>(
      std::vector<std::string_view>(kBytes.begin(), kBytes.end()), std::vector<int32_t>{256});
  return kTrie;
}

Matcher matcher_of(std::string_view schema, bool is_compact = false) {
  const auto json = io::parse_json(schema);
  EXPECT_TRUE(json) << schema;
  auto grammar = from_json_schema(*json, is_compact);
  EXPECT_TRUE(grammar) << schema << ": " << grammar.error().to_string();
  return {std::make_shared<const Grammar>(*std::move(grammar)), byte_trie()};
}

// Whether all of `text` matches. After each byte something must be able to follow, or the text be complete.
bool matches(Matcher matcher, std::string_view text) {
  for (const char c : text) {
    if (!matcher.accept(static_cast<unsigned char>(c))) return false;
    const auto mask = matcher.mask();
    EXPECT_TRUE(mask && std::any_of(mask->begin(), mask->end(), [](uint32_t bits) { return bits != 0; }))
        << "nothing may follow within " << text;
  }
  return matcher.is_accepting();
}

void expect_matches(std::string_view schema, std::initializer_list<std::string_view> good,
                    std::initializer_list<std::string_view> bad) {
  const Matcher matcher = matcher_of(schema);
  for (const auto text : good) EXPECT_TRUE(matches(matcher, text)) << schema << " " << text;
  for (const auto text : bad) EXPECT_FALSE(matches(matcher, text)) << schema << " " << text;
}

TEST(NumberLimits, every_integer_near_them_is_decided) {
  for (int min = -25; min <= 120; min += 29) {
    for (int max = min; max <= 131; max += 31) {
      const std::string limits =
          R"("minimum": )" + std::to_string(min) + R"(, "maximum": )" + std::to_string(max);
      const Matcher matcher = matcher_of(R"({"type": "integer", )" + limits + "}");
      for (int value = -150; value <= 150; ++value)
        EXPECT_EQ(matches(matcher, std::to_string(value)), value >= min && value <= max)
            << value << " " << limits;
    }
  }
}

TEST(NumberLimits, every_decimal_near_them_is_decided) {
  const char* kNumbers[] = {"-2.5", "-1", "0", "0.05", "0.5", "9.99", "12.25"};
  for (const char* min : kNumbers) {
    for (const char* max : kNumbers) {
      for (const bool is_exclusive : {false, true}) {
        const double low = std::stod(min);
        const double high = std::stod(max);
        if (low >= high) continue;
        const std::string prefix = is_exclusive ? R"("exclusiveM)" : R"("m)";
        const std::string schema = R"({"type": "number", )" + prefix + R"(inimum": )" + min + ", " + prefix +
                                   R"(aximum": )" + max + "}";
        const Matcher matcher = matcher_of(schema);
        for (int hundredths = -300; hundredths <= 1300; hundredths += hundredths % 5 == 0 ? 1 : 24) {
          std::string text = io::dump_json(Json(hundredths / 100.0));
          if (text.ends_with(".0")) text.resize(text.size() - 2);
          if (text == "-0") continue;
          const double value = std::stod(text);
          const bool is_within = is_exclusive ? value > low && value < high : value >= low && value <= high;
          EXPECT_EQ(matches(matcher, text), is_within) << text << " " << schema;
        }
      }
    }
  }
}

TEST(NumberLimits, of_one_side_and_of_every_draft) {
  expect_matches(R"({"type": "integer", "minimum": 3})", {"3", "10", "999999999999999999"},
                 {"2", "-3", "03", "3.0"});
  expect_matches(R"({"type": "integer", "maximum": -3})", {"-3", "-12"}, {"-2", "0", "3"});
  expect_matches(R"({"type": "integer", "exclusiveMinimum": 0})", {"1", "20"}, {"0", "-1"});
  expect_matches(R"({"type": "integer", "minimum": 0, "exclusiveMinimum": true})", {"1"}, {"0"});
  expect_matches(R"({"type": "integer", "minimum": 0.5, "maximum": 3.5})", {"1", "3"}, {"0", "4"});
  expect_matches(R"({"type": "integer", "minimum": 0, "maximum": 18446744073709551615})",
                 {"0", "999999999999999999"}, {"-1"});
  expect_matches(R"({"type": "integer", "minimum": 0, "multipleOf": 1})", {"5"}, {"-5"});
  expect_matches(R"({"type": "number", "multipleOf": 1, "maximum": 5})", {"5", "-5"}, {"5.5", "6"});
  expect_matches(R"({"type": "number", "exclusiveMinimum": 0})", {"0.001", "7", "7.5"}, {"0", "0.0", "-1"});
  expect_matches(R"({"type": "number", "minimum": 1e-7, "maximum": 1e20})", {"0.0000001", "5"},
                 {"0", "0.00000005"});
  expect_matches(R"({"minimum": 3})", {"3", "4.5"}, {"2", "\"a\""});
}

TEST(StringSchema, lengths_beside_patterns_and_formats) {
  expect_matches(R"({"type": "string", "pattern": "^[a-z]*$", "minLength": 2, "maxLength": 3})",
                 {"\"ab\"", "\"abc\""}, {"\"a\"", "\"abcd\"", "\"AB\""});
  expect_matches(R"({"type": "string", "pattern": "^(ab|cde)$", "maxLength": 3})", {"\"ab\"", "\"cde\""},
                 {"\"abc\""});
  expect_matches(R"({"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083})",
                 {"\"https://example.org/a%20b?q=1#x\"", "\"file:///tmp/x\""},
                 {"\"\"", "\"a b\"", "\"//x\""});
  expect_matches(R"({"type": "string", "maxLength": 70000})", {"\"\"", "\"abc\""}, {});
}

TEST(StringSchema, formats) {
  const auto format = [](const char* name) {
    return R"({"type": "string", "format": ")" + std::string(name) + "\"}";
  };
  expect_matches(format("email"), {R"("a.b+c@mail.example.org")"},
                 {R"("a@b")", R"("a b@c.de")", R"("@c.de")"});
  expect_matches(format("ipv4"), {R"("192.168.0.255")"}, {R"("256.1.1.1")", R"("1.2.3")"});
  expect_matches(format("ipv6"), {R"("::1")", R"("2001:db8::ff00")", R"("1:2:3:4:5:6:7:8")"}, {R"("1:2")"});
  expect_matches(format("hostname"), {R"("a-b.example.org")"}, {R"("-a")", R"("a..b")"});
  expect_matches(format("duration"), {R"("P3D")", R"("PT5M30S")", R"("P1DT2H")", R"("P2W")"},
                 {R"("P")", R"("PT")"});
  expect_matches(format("date"), {R"("2026-02-28")", R"("2026-12-31")"},
                 {R"("2026-02-30")", R"("2026-04-31")", R"("0000-01-01")"});
  expect_matches(format("of-ones-own"), {R"("anything")"}, {"1"});
  expect_matches(R"({"type": "integer", "format": "int32"})", {"1"}, {"\"1\""});
}

TEST(SchemaUnions, siblings_hold_for_every_member) {
  expect_matches(R"({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"],
                     "anyOf": [{"properties": {"b": {"const": 1}}, "required": ["b"]}, {"properties": {"a": {}}}]})",
                 {R"({"a":null,"b":1})", R"({"a":null})"}, {R"({"b":1})", R"({"a":1})"});
  expect_matches(
      R"({"type": "string", "anyOf": [{"enum": ["a", 1]}, {"type": "integer"}, {"minLength": 3}]})",
      {"\"a\"", "\"abc\""}, {"1", "\"ab\""});
  expect_matches(
      R"({"allOf": [{"$ref": "#/$defs/p"}, {"properties": {"y": {"type": "integer"}}, "required": ["y"]}],
                     "$defs": {"p": {"type": "object", "properties": {"x": {"type": "integer", "maximum": 5}}}}})",
      {R"({"x":1,"y":2})", R"({"y":2})"}, {R"({"x":1})", R"({"x":6,"y":2})"});
  expect_matches(
      R"({"$ref": "#/$defs/n", "maximum": 3, "$defs": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}})",
      {"1", "3"}, {"0", "4"});
  expect_matches(R"({"type": "string", "nullable": true, "enum": ["a"]})", {"\"a\"", "null"}, {"1"});
}

TEST(SchemaUnions, members_that_cannot_be_enforced_are_left_out) {
  expect_matches(R"~({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^(?!x)"}]})~", {"1.5"},
                 {"\"a\""});
  // What was compiled meanwhile is compiled anew, and does not lead into what is left out.
  expect_matches(R"({"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {
      "a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}, "x": {"not": {}}}},
      "b": {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "integer"}]}}, "required": ["a"]}}})",
                 {R"({"a":1})"}, {R"({"b":{"a":1}})", R"({"a":{}})"});
}

TEST(SchemaArrays, tuples_and_bounds) {
  const char* pair =
      R"({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "minItems": 2, "maxItems": 2})";
  expect_matches(pair, {"[1,true]", "[1, false]"}, {"[]", "[1]", "[true,1]", "[1,true,1]"});
  expect_matches(R"({"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "null"}})",
                 {"[]", "[1]", "[1,null,null]"}, {"[null]", "[1,1]"});
  expect_matches(R"({"type": "array", "items": false})", {"[]"}, {"[1]"});
  expect_matches(R"({"type": "array", "items": {"type": "integer"}, "uniqueItems": true, "maxItems": 1})",
                 {"[]", "[1]"}, {"[1,1]"});
}

TEST(SchemaObjects, maps_and_names_that_are_only_required) {
  expect_matches(
      R"({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 2})",
      {R"({"a":1})", R"({"a":1,"b":2})"}, {"{}", R"({"a":1,"b":2,"c":3})"});
  expect_matches(R"({"type": "object", "required": ["a"]})", {R"({"a":[1]})"}, {"{}", R"({"b":1})"});
}

TEST(JsonSchema, compact_json_has_no_white_space) {
  const Matcher matcher =
      matcher_of(R"({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"]})", true);
  EXPECT_TRUE(matches(matcher, R"({"a":[1,{"x":"y z"}],"b":2})"));
  for (const char* text :
       {R"({ "a":1})", R"({"a": 1})", R"({"a":1, "b":2})", "{\"a\":1\n}", R"({"a":[1, 2]})"})
    EXPECT_FALSE(matches(matcher, text)) << text;
}

TEST(Grammar, either_of_two_is_followed) {
  const auto both = either_of(*from_regex("a+b"), *from_json_schema(*io::parse_json(R"({"const": [1]})")));
  const Matcher matcher(std::make_shared<const Grammar>(both), byte_trie());
  EXPECT_TRUE(matches(matcher, "aab"));
  EXPECT_TRUE(matches(matcher, "[1]"));
  EXPECT_FALSE(matches(matcher, "a[1]"));
}

TEST(Matcher, a_grammar_that_is_too_ambiguous_is_the_clients_fault) {
  Matcher matcher(std::make_shared<const Grammar>(*from_regex("([a-z ]?){5000}b")), byte_trie());
  auto mask = matcher.mask();
  for (int i = 0; mask && i < 20; ++i) {
    ASSERT_TRUE(matcher.accept('a'));
    mask = matcher.mask();
  }
  ASSERT_FALSE(mask);
  EXPECT_EQ(mask.error().code, ErrorCode::kUnsupported);
}

TEST(Matcher, before_it_begins_no_token_ends_the_sequence) {
  Matcher matcher(std::make_shared<const Grammar>(*from_regex("a*")), byte_trie());
  const auto mask = matcher.mask_before();
  for (int32_t id = 0; id <= 256; ++id)
    EXPECT_EQ((mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0, id != 256) << id;
}

}  // namespace
}  // namespace nemoforge::grammar
