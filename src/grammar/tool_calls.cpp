#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "grammar/grammar.h"
#include "grammar/json_schema.h"

namespace nemoforge::grammar {
namespace {

using io::Json;

// Text that the closing tag of a parameter ends: no line of it begins with "</".
Expr raw_text() {
  const CodePointSet line_feed = {{'\n', '\n'}};
  const Expr rest = repeat(one_of(complement(line_feed)), 0, -1);
  const Expr plain = sequence({one_of(complement({{'\n', '\n'}, {'<', '<'}})), rest});
  const Expr less_than = sequence(
      {literal("<"), repeat(sequence({one_of(complement({{'\n', '\n'}, {'/', '/'}})), rest}), 0, 1)});
  const Expr line = repeat(choice({plain, less_than}), 0, 1);
  return sequence({line, repeat(sequence({literal("\n"), line}), 0, -1)});
}

// A string of the schema, whose text stands without quotes; null for other schemas.
Expr raw_string(const Json& schema) {
  if (!schema.is_object() || schema.value("type", Json()) != "string") return nullptr;
  if (!schema.contains("enum")) return raw_text();
  std::vector<Expr> values;
  for (const Json& value : schema["enum"]) {
    if (!value.is_string()) return nullptr;
    values.push_back(literal(value.get_ref<const std::string&>()));
  }
  return choice(std::move(values));
}

// Whether `name` can stand in a tag.
bool fits_a_tag(const std::string& name) {
  return !name.empty() && name.find_first_of("<>\n") == std::string::npos;
}

Result<Expr> value_of(GrammarBuilder& builder, const Json& schema, const Json& parameters, bool is_strict,
                      const std::string& place) {
  if (Expr raw = raw_string(schema)) return raw;
  auto json = add_json_schema(builder, schema, parameters, place);
  if (!json && !is_strict && json.error().code == ErrorCode::kUnsupported) return raw_text();
  return json;
}

bool is_required(const Json& parameters, const std::string& name) {
  const auto required = parameters.find("required");
  if (required == parameters.end() || !required->is_array()) return false;
  for (const Json& one : *required) {
    if (one == name) return true;
  }
  return false;
}

// <function=NAME> ... </function>
Result<Expr> function_call(GrammarBuilder& builder, const Json& function, const std::string& place) {
  const auto& name = function.at("name").get_ref<const std::string&>();
  if (!fits_a_tag(name))
    return error(ErrorCode::kUnsupported, place + ".name: a name with <, > or a line feed cannot be called");
  std::vector<Expr> parts = {literal("<function=" + name + ">\n")};
  const bool is_strict = function.value("strict", Json()) == true;
  const Json none = Json::object();
  const Json& parameters =
      function.contains("parameters") && function["parameters"].is_object() ? function["parameters"] : none;
  const Json& properties = parameters.contains("properties") && parameters["properties"].is_object()
                               ? parameters["properties"]
                               : none;
  for (const auto& [key, schema] : properties.items()) {
    if (!fits_a_tag(key))
      return error(ErrorCode::kUnsupported,
                   place + ".parameters: a name with <, > or a line feed cannot be given");
    NF_TRY(Expr value,
           value_of(builder, schema, parameters, is_strict, place + ".parameters.properties." + key));
    Expr parameter =
        sequence({literal("<parameter=" + key + ">\n"), std::move(value), literal("\n</parameter>\n")});
    parts.push_back(repeat(std::move(parameter), is_required(parameters, key) ? 1 : 0, 1));
  }
  parts.push_back(literal("</function>"));
  return sequence(std::move(parts));
}

}  // namespace

Result<Grammar> from_tool_calls(const Json& tools, std::string_view name, bool several) {
  if (!tools.is_array() || tools.empty())
    return error(ErrorCode::kInvalidArgument, "tools: expected a list that is not empty");
  GrammarBuilder builder;
  std::vector<Expr> functions;
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string place = fmt::format("tools[{}].function", i);
    const Json& tool = tools[i];
    if (!tool.is_object() || !tool.contains("function") || !tool["function"].is_object() ||
        !tool["function"].contains("name") || !tool["function"]["name"].is_string())
      return error(ErrorCode::kInvalidArgument, place + ": expected an object with a name");
    if (!name.empty() && tool["function"]["name"] != name) continue;
    NF_TRY(Expr function, function_call(builder, tool["function"], place));
    functions.push_back(std::move(function));
  }
  if (functions.empty())
    return error(ErrorCode::kInvalidArgument, fmt::format("tools: there is no function {}", name));
  const int32_t call = builder.add_rule();
  builder.define(
      call, sequence({literal("<tool_call>\n"), choice(std::move(functions)), literal("\n</tool_call>")}));
  const int32_t root = builder.add_rule();
  builder.define(
      root, sequence({rule_of(call), repeat(sequence({literal("\n"), rule_of(call)}), 0, several ? -1 : 0)}));
  return builder.build(root);
}

}  // namespace nemoforge::grammar
