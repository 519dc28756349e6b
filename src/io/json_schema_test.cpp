#include "io/json_schema.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace nemoforge::io {
namespace {

struct Case {
  const char* schema;
  std::vector<const char*> valid;
  std::vector<const char*> invalid;
};

TEST(JsonSchemaCheck, finds_what_breaks_a_schema) {
  const std::vector<Case> cases = {
      {R"({"type": "integer"})", {"1", "2.0", "-9223372036854775808", "1e300"}, {"1.5", "\"1\"", "null"}},
      {R"({"type": ["string", "null"]})", {"\"\"", "null"}, {"0", "[]"}},
      {R"({"type": "string", "nullable": true})", {"\"\"", "null"}, {"0"}},
      {R"({"enum": [1, "a", null]})", {"1", "\"a\"", "null", "1.0"}, {"\"1\"", "2"}},
      {R"({"const": {"a": [1]}})", {R"({"a": [1]})"}, {"{}"}},
      {R"({"minimum": 1, "maximum": 5})", {"1", "5", "\"x\""}, {"0", "5.5"}},
      {R"({"exclusiveMinimum": 1, "exclusiveMaximum": 2})", {"1.5"}, {"1", "2"}},
      {R"({"minimum": 1, "exclusiveMinimum": true})", {"2"}, {"1"}},
      {R"({"type": "integer", "multipleOf": 5})", {"10", "0", "-5"}, {"7"}},
      {R"({"minLength": 2, "maxLength": 3})", {"\"\xC3\xA9\xC3\xA9\"", "1"}, {"\"\xC3\xA9\"", "\"abcd\""}},
      {R"({"anyOf": [{"type": "null"}, {"minimum": 3}]})", {"null", "3"}, {"2"}},
      {R"({"allOf": [{"minimum": 1}, {"maximum": 3}]})", {"2"}, {"0", "4"}},
      {R"({"items": {"type": "boolean"}, "minItems": 1, "maxItems": 2})",
       {"[true]"},
       {"[]", "[1]", "[true,true,true]"}},
      {R"({"prefixItems": [{"type": "string"}], "items": false})", {"[]", "[\"a\"]"}, {"[1]", "[\"a\",1]"}},
      {R"({"properties": {"a": {"type": "null"}}, "required": ["a"], "additionalProperties": false})",
       {R"({"a": null})"},
       {"{}", R"({"a": 1})", R"({"a": null, "b": 1})"}},
      {R"({"$ref": "#/$defs/list", "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}})",
       {"[[],[[]]]"},
       {"[[1]]"}},
      {R"({"pattern": "^a$", "not": {}})", {"\"b\""}, {}},
      {"true", {"1"}, {}},
      {"false", {}, {"1"}},
  };
  for (const Case& one : cases) {
    const auto schema = parse_json(one.schema);
    ASSERT_TRUE(schema) << one.schema;
    for (const char* value : one.valid)
      EXPECT_TRUE(may_be_valid(*parse_json(value), *schema, *schema)) << one.schema << " " << value;
    for (const char* value : one.invalid)
      EXPECT_FALSE(may_be_valid(*parse_json(value), *schema, *schema)) << one.schema << " " << value;
  }
}

TEST(JsonSchemaCheck, schemas_that_never_end_do) {
  const auto self = parse_json(R"({"$ref": "#", "anyOf": [{"$ref": "#"}, {"$ref": "#"}]})");
  EXPECT_TRUE(may_be_valid(1, *self, *self));
}

TEST(JsonSchemaCheck, finds_references_within_the_root_only) {
  const auto root = parse_json(R"({"$defs": {"a": 1, "b/c": 2}, "list": [3]})");
  EXPECT_EQ(*find_reference("#/$defs/a", *root), 1);
  EXPECT_EQ(*find_reference("#/$defs/b~1c", *root), 2);
  EXPECT_EQ(*find_reference("#/list/0", *root), 3);
  EXPECT_EQ(find_reference("#", *root), &*root);
  for (const char* ref : {"#/$defs/x", "#/list/x", "http://x", "", "#x", "#/list/9"})
    EXPECT_EQ(find_reference(ref, *root), nullptr) << ref;
}

}  // namespace
}  // namespace nemoforge::io
