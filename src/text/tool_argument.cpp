#include "text/tool_argument.h"

#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "io/json_schema.h"
#include "text/python_literal.h"
#include "text/utf8.h"

namespace nemoforge::text {
namespace {

using io::Json;

constexpr int kMaxSchemaDepth = 32;

std::optional<uint8_t> type_named(std::string_view name) {
  if (name == "string") return JsonTypes::kString;
  if (name == "integer") return JsonTypes::kInteger;
  if (name == "number") return JsonTypes::kNumber | JsonTypes::kInteger;
  if (name == "boolean") return JsonTypes::kBoolean;
  if (name == "null") return JsonTypes::kNull;
  if (name == "object") return JsonTypes::kObject;
  if (name == "array") return JsonTypes::kArray;
  return std::nullopt;
}

JsonTypes::Type type_of(const Json& value) {
  if (value.is_string()) return JsonTypes::kString;
  if (value.is_number_integer()) return JsonTypes::kInteger;
  if (value.is_number()) return JsonTypes::kNumber;
  if (value.is_boolean()) return JsonTypes::kBoolean;
  if (value.is_object()) return JsonTypes::kObject;
  if (value.is_array()) return JsonTypes::kArray;
  return JsonTypes::kNull;
}

uint8_t named_types(const Json& type) {
  uint8_t types = 0;
  if (type.is_string()) types = type_named(type.get_ref<const std::string&>()).value_or(0);
  if (type.is_array()) {
    for (const Json& one : type)
      types = static_cast<uint8_t>(types | (one.is_string() ? named_types(one) : 0));
  }
  return types == 0 ? JsonTypes::kAll : types;
}

uint8_t types_of(const Json& schema, const Json& root, int depth);

uint8_t types_but_null(const Json& schema, const Json& root, int depth) {
  if (const auto type = schema.find("type"); type != schema.end()) return named_types(*type);
  if (const auto values = schema.find("enum"); values != schema.end() && values->is_array()) {
    uint8_t types = 0;
    for (const Json& value : *values) types = static_cast<uint8_t>(types | type_of(value));
    return types == 0 ? JsonTypes::kAll : types;
  }
  if (const auto value = schema.find("const"); value != schema.end()) return type_of(*value);
  if (const auto ref = schema.find("$ref"); ref != schema.end() && ref->is_string()) {
    const Json* target = io::find_reference(ref->get_ref<const std::string&>(), root);
    return target == nullptr ? JsonTypes::kAll : types_of(*target, root, depth + 1);
  }
  for (const char* key : {"anyOf", "oneOf"}) {
    const auto members = schema.find(key);
    if (members == schema.end() || !members->is_array() || members->empty()) continue;
    uint8_t types = 0;
    for (const Json& member : *members)
      types = static_cast<uint8_t>(types | types_of(member, root, depth + 1));
    return types;
  }
  uint8_t types = JsonTypes::kAll;
  if (const auto members = schema.find("allOf"); members != schema.end() && members->is_array()) {
    for (const Json& member : *members)
      types = static_cast<uint8_t>(types & types_of(member, root, depth + 1));
  }
  return types == 0 ? JsonTypes::kAll : types;
}

uint8_t types_of(const Json& schema, const Json& root, int depth) {
  if (!schema.is_object() || depth > kMaxSchemaDepth) return JsonTypes::kAll;
  const bool is_nullable = schema.value("nullable", Json()) == true;
  return static_cast<uint8_t>(types_but_null(schema, root, depth) | (is_nullable ? JsonTypes::kNull : 0));
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] + 32) : text[i];
    if (c != lower[i]) return false;
  }
  return true;
}

// `value` where its type is allowed; `spelling` is its JSON. A whole number may be written 5.0.
std::optional<std::string> if_allowed(const Json& value, std::string spelling, JsonTypes types) {
  constexpr double kExact = 9007199254740992.0;  // 2^53: integers of a double up to here are exact
  const JsonTypes::Type type = type_of(value);
  if (types.allows(type)) return spelling;
  if (type == JsonTypes::kNumber && types.allows(JsonTypes::kInteger) &&
      spelling.find_first_of(".eE") == std::string::npos) {
    return spelling;  // a whole number beyond 64 bits
  }
  if (type == JsonTypes::kNumber && types.allows(JsonTypes::kInteger)) {
    const double number = value.get<double>();
    if (std::abs(number) <= kExact && std::floor(number) == number) {
      return std::to_string(static_cast<int64_t>(number));
    }
  }
  return std::nullopt;
}

// What `text`, which is trimmed, spells of the allowed types other than a string.
std::optional<std::string> typed_value(std::string_view text, JsonTypes types) {
  if (text == "None" || equals_ignoring_case(text, "null")) {
    if (types.allows(JsonTypes::kNull) || !types.allows(JsonTypes::kString)) return "null";
    return std::nullopt;
  }
  if (types.allows(JsonTypes::kBoolean)) {
    if (equals_ignoring_case(text, "true")) return "true";
    if (equals_ignoring_case(text, "false")) return "false";
  }
  const bool string_allowed = types.allows(JsonTypes::kString);
  if (const auto value = io::parse_json(text)) {
    if (!value->is_string()) return if_allowed(*value, std::string(text), types);
    // "5" in quotes, where a number is asked for.
    const std::string inner(trim(value->get_ref<const std::string&>()));
    return string_allowed || inner.starts_with('"') ? std::nullopt : typed_value(inner, types);
  }
  if (const auto value = parse_python_literal(text)) {
    if (!value->is_string()) return if_allowed(*value, io::dump_json(*value), types);
    const std::string inner(trim(value->get_ref<const std::string&>()));
    const bool quoted = inner.starts_with('"') || inner.starts_with('\'');
    return string_allowed || quoted ? std::nullopt : typed_value(inner, types);
  }
  return std::nullopt;
}

}  // namespace

JsonTypes json_types_of(const Json& schema, const Json& root) {
  return JsonTypes(types_of(schema, root, 0));
}

Result<ToolSchemas> ToolSchemas::from_json(const Json& tools) {
  const auto fail = [](const std::string& place, const char* expected) {
    return error(ErrorCode::kInvalidArgument, place + ": expected " + expected);
  };
  if (!tools.is_array()) return fail("tools", "an array");
  if (tools.size() > kMaxTools) {
    return error(ErrorCode::kInvalidArgument, "tools: at most " + std::to_string(kMaxTools) +
                                                  " are taken, got " + std::to_string(tools.size()));
  }
  ToolSchemas schemas;
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string place = "tools[" + std::to_string(i) + "]";
    const Json& tool = tools[i];
    if (!tool.is_object() || !tool.contains("function") || !tool["function"].is_object()) {
      return fail(place, "an object with `type` \"function\" and an object `function`");
    }
    const Json& function = tool["function"];
    if (!function.contains("name") || !function["name"].is_string() ||
        function["name"].get_ref<const std::string&>().empty()) {
      return fail(place + ".function.name", "a string that is not empty");
    }
    const auto& name = function["name"].get_ref<const std::string&>();
    Tool& known = schemas.tools_[name] = {};
    const auto schema = function.find("parameters");
    if (schema == function.end() || schema->is_null()) continue;
    if (!schema->is_object())
      return fail(place + ".function.parameters", "a JSON schema, which is an object");
    known.schema = std::make_shared<const Json>(*schema);
    const Json& root = *known.schema;
    const Json* object = &root;
    if (const auto ref = root.find("$ref"); ref != root.end() && ref->is_string())
      object = io::find_reference(ref->get_ref<const std::string&>(), root);
    if (object == nullptr || !object->is_object() || !object->contains("properties")) continue;
    const Json& properties = (*object)["properties"];
    if (!properties.is_object()) return fail(place + ".function.parameters.properties", "an object");
    for (const auto& [key, property] : properties.items())
      known.parameters.insert_or_assign(key, ToolParameter{json_types_of(property, root), &property, &root});
  }
  return schemas;
}

ToolParameter ToolSchemas::parameter(std::string_view tool, std::string_view name) const {
  const auto known = tools_.find(tool);
  if (known == tools_.end()) return {};
  const auto found = known->second.parameters.find(name);
  return found == known->second.parameters.end() ? ToolParameter() : found->second;
}

bool ToolParameter::is_free_string() const {
  if (!types.is_string()) return false;
  // What is listed somewhere is short, and may be quoted by a model that takes it for JSON.
  return schema == nullptr || (schema->value("type", Json()) == "string" && !schema->contains("enum") &&
                               !schema->contains("const"));
}

std::string argument_to_json(std::string_view text, const ToolParameter& parameter) {
  const auto string_of = [](std::string_view value) { return '"' + escape_json_string(value) + '"'; };
  if (parameter.is_free_string()) return string_of(text);
  const std::string_view trimmed = trim(text);
  std::vector<std::string> readings;
  if (!parameter.types.is_string()) {
    if (auto value = typed_value(trimmed, parameter.types)) readings.push_back(*std::move(value));
  }
  readings.push_back(string_of(text));
  if (parameter.schema == nullptr) return readings[0];
  if (parameter.types.allows(JsonTypes::kString)) {
    if (trimmed != text) readings.push_back(string_of(trimmed));
    if (const auto json = io::parse_json(trimmed); json && json->is_string()) {
      readings.push_back(io::dump_json(*json));
    } else if (const auto quoted = parse_python_literal(trimmed); quoted && quoted->is_string()) {
      readings.push_back(io::dump_json(*quoted));
    }
  }
  for (std::string& reading : readings) {
    const auto value = io::parse_json(reading, {.max_depth = 512});
    if (value && io::may_be_valid(*value, *parameter.schema, *parameter.root)) return std::move(reading);
  }
  return readings[0];
}

std::string escape_json_string(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  const std::string repaired = is_valid_utf8(text) ? std::string() : repair_utf8(text);
  for (const char c : repaired.empty() ? text : std::string_view(repaired)) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace nemoforge::text
