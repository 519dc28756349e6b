#include "io/json.h"

#include <cmath>
#include <string>
#include <string_view>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace nemoforge::io {
namespace {

constexpr JsonLimits kNonFinite{.allow_non_finite = true};
constexpr JsonLimits kUniqueKeys{.reject_duplicate_keys = true};

TEST(ParseJson, keeps_key_order_and_lets_the_last_duplicate_win) {
  const auto value = parse_json(R"({"b": 1, "a": [true, null, "x"], "b": 2})");
  ASSERT_TRUE(value);
  EXPECT_EQ(dump_json(*value), R"({"b":2,"a":[true,null,"x"]})");
}

TEST(ParseJson, reads_bare_non_finite_literals_only_when_allowed) {
  const std::string text = R"({"limit": [0.0, Infinity, -Infinity, NaN], "s": "Infinity"})";
  EXPECT_FALSE(parse_json(text));
  const auto value = parse_json(text, kNonFinite);
  ASSERT_TRUE(value) << value.error().message;
  EXPECT_EQ((*value)["limit"][1].get<double>(), INFINITY);
  EXPECT_EQ((*value)["limit"][2].get<double>(), -INFINITY);
  EXPECT_TRUE(std::isnan((*value)["limit"][3].get<double>()));
  EXPECT_EQ((*value)["s"], "Infinity");
}

TEST(ParseJson, no_string_of_a_document_becomes_a_number) {
  const auto value = parse_json(R"(["", "\u0001nemoforge:Infinity", "a\"NaN", NaN])", kNonFinite);
  ASSERT_TRUE(value) << value.error().message;
  EXPECT_EQ((*value)[0], "");
  EXPECT_TRUE((*value)[1].is_string());
  EXPECT_EQ((*value)[2], "a\"NaN");
  EXPECT_TRUE(std::isnan((*value)[3].get<double>()));
}

TEST(ParseJson, refuses_a_non_finite_key_and_glued_literals) {
  for (const char* text : {"{Infinity: 1}", "[NaNs]", "[1Infinity]", "[--Infinity]", "[InfinityNaN]"}) {
    EXPECT_FALSE(parse_json(text, kNonFinite)) << text;
  }
}

TEST(ParseJson, refuses_duplicate_keys_on_request_in_any_object) {
  EXPECT_TRUE(parse_json(R"({"a": {"a": 1}, "b": {"a": 1}})", kUniqueKeys));
  const auto value = parse_json(R"([{"a": 1}, {"b": {"c": 1, "c": 2}}])", kUniqueKeys);
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().message, "invalid JSON: the key \"c\" occurs twice");
}

TEST(ParseJson, errors_do_not_repeat_the_documents_bytes) {
  const auto value = parse_json("{\"a\": \"\xff\xfe\"}");
  ASSERT_FALSE(value.has_value());
  EXPECT_EQ(
      value.error().message,
      "invalid JSON: parse error at line 1, column 8: syntax error while parsing value - invalid string: "
      "ill-formed UTF-8 byte");
}

TEST(ParseJson, reads_the_whole_text) {
  using namespace std::string_view_literals;
  for (const std::string_view text : {"null\0"sv, "5\0 and more"sv, "[\0]"sv, "\0"sv, "\xef\xbb\xbf 5"sv}) {
    EXPECT_FALSE(parse_json(text)) << text;
    EXPECT_FALSE(parse_json(text, {.allow_non_finite = true})) << text;
  }
}

TEST(ParseJson, bounds_nesting_without_counting_brackets_in_strings) {
  EXPECT_TRUE(parse_json(R"(["[[[[[[", "\"[["])", {.max_depth = 1}));
  EXPECT_FALSE(parse_json("[[1]]", {.max_depth = 1}));
  EXPECT_FALSE(parse_json(std::string(100000, '[')));
}

TEST(ParseJson, bounds_the_keys_of_an_object_where_they_are_ordered) {
  const auto object = [](int64_t num_keys) {
    std::string text = "{";
    for (int64_t i = 0; i < num_keys; ++i) {
      if (i > 0) text += ',';
      text += '"' + std::to_string(i) + R"(":{"a":1,"b":":::"})";
    }
    return text + '}';
  };
  EXPECT_TRUE(parse_json(object(100)));
  const auto too_wide = parse_json(object(kMaxObjectKeys + 1));
  ASSERT_FALSE(too_wide);
  EXPECT_EQ(too_wide.error().message, "JSON has an object of more than 8192 keys");
  const auto sorted = parse_sorted_json(object(100'000), {.reject_duplicate_keys = true});
  ASSERT_TRUE(sorted) << sorted.error().message;
  EXPECT_EQ(sorted->size(), 100'000U);
  EXPECT_FALSE(parse_sorted_json("}}]]:::")) << "no JSON, but no crash either";
}

TEST(ParseJson, says_where_the_text_is_wrong) {
  const auto value = parse_json("{\"a\": 1,\n \"b\": }");
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().code, ErrorCode::kInvalidData);
  EXPECT_NE(value.error().message.find("line 2"), std::string::npos) << value.error().message;
  EXPECT_FALSE(parse_json("\"\xff\""));
  EXPECT_FALSE(parse_json("1 2"));
  EXPECT_FALSE(parse_json(""));
}

TEST(DumpJson, writes_utf8_and_mends_what_is_not) {
  EXPECT_EQ(dump_json(Json("\xc3\xa9")), "\"\xc3\xa9\"");
  EXPECT_EQ(dump_json(Json("\xff")), "\"\xef\xbf\xbd\"");
}

}  // namespace
}  // namespace nemoforge::io
