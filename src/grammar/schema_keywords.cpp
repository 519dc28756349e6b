#include "grammar/schema_keywords.h"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

namespace nemoforge::grammar {
namespace {

using io::Json;

constexpr std::array kAnnotations = {
    "title",     "description",   "default",      "examples",    "example",          "$schema",
    "$id",       "$comment",      "$defs",        "definitions", "deprecated",       "readOnly",
    "writeOnly", "discriminator", "externalDocs", "xml",         "contentMediaType", "contentEncoding"};

struct KeywordsOfType {
  std::string_view type;
  std::array<std::string_view, 7> keywords;  // the rest is empty
};
constexpr std::array kTyped = {
    KeywordsOfType{"string", {"pattern", "minLength", "maxLength", "format"}},
    KeywordsOfType{"array", {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}},
    KeywordsOfType{"object",
                   {"properties", "required", "additionalProperties", "patternProperties", "propertyNames",
                    "minProperties", "maxProperties"}},
    KeywordsOfType{"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}},
};

}  // namespace

bool is_annotation(std::string_view keyword) {
  return keyword.starts_with("x-") ||
         std::find(kAnnotations.begin(), kAnnotations.end(), keyword) != kAnnotations.end();
}

std::string_view type_of_keyword(std::string_view keyword) {
  if (keyword.empty()) return {};
  for (const KeywordsOfType& one : kTyped) {
    if (std::find(one.keywords.begin(), one.keywords.end(), keyword) != one.keywords.end()) return one.type;
  }
  return {};
}

Json keywords_about(const Json& schema, std::string_view type) {
  if (type == "integer") type = "number";
  Json out = Json::object();
  for (const auto& [key, value] : schema.items()) {
    const std::string_view of = type_of_keyword(key);
    if (of.empty() || of == type) out[key] = value;
  }
  return out;
}

}  // namespace nemoforge::grammar
