#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "grammar/grammar.h"
#include "grammar/json_schema.h"
#include "grammar/schema_keywords.h"
#include "grammar/string_schema.h"
#include "io/json_schema.h"

namespace nemoforge::grammar {
namespace {

using io::Json;

// Whether `name` can stand in a tag.
bool fits_a_tag(const std::string& name) {
  constexpr size_t kMaxName = 256;  // that text::ToolCallParser takes
  return !name.empty() && name.size() <= kMaxName && name.find_first_of("<>\r\n") == std::string::npos;
}

// The schema of a function's parameters: an object.
Result<const Json*> parameters_of(const Json& function, const std::string& place) {
  static const Json kNone = Json::object();
  const auto found = function.find("parameters");
  if (found == function.end() || !found->is_object()) return &kNone;
  const auto ref = found->find("$ref");
  if (ref == found->end()) return &*found;
  const Json* target =
      ref->is_string() ? io::find_reference(ref->get_ref<const std::string&>(), *found) : nullptr;
  if (target == nullptr || !target->is_object())
    return error(ErrorCode::kInvalidArgument, place + ".parameters.$ref: there is no " + io::dump_json(*ref));
  return target;
}

// Names what a strict function's parameters say that is not enforced.
Status check_parameters(const Json& parameters, const std::string& place) {
  for (const auto& [key, value] : parameters.items()) {
    if (is_annotation(key) || key == "type" || key == "properties" || key == "required" || key == "$ref" ||
        key == "additionalProperties")
      continue;
    return error(ErrorCode::kUnsupported,
                 place + ".parameters." + key + ": this keyword cannot be enforced here");
  }
  return {};
}

// The properties, among them those that are only named as required.
Json properties_of(const Json& parameters, std::set<std::string>& required) {
  Json properties = parameters.value("properties", Json::object());
  if (!properties.is_object()) properties = Json::object();
  const auto names = parameters.find("required");
  if (names == parameters.end() || !names->is_array()) return properties;
  for (const Json& name : *names) {
    if (!name.is_string()) continue;
    required.insert(name.get<std::string>());
    if (!properties.contains(name.get_ref<const std::string&>())) properties[name.get<std::string>()] = true;
  }
  return properties;
}

// <function=NAME> ... </function>
Result<Expr> function_call(GrammarBuilder& builder, Strings& strings, const Json& function,
                           const std::string& place) {
  const auto& name = function.at("name").get_ref<const std::string&>();
  if (!fits_a_tag(name)) {
    return error(ErrorCode::kUnsupported,
                 place + ".name: a name with <, >, a line break or more than 256 bytes cannot be called");
  }
  std::vector<Expr> parts = {literal("<function=" + name + ">\n")};
  const bool is_strict = function.value("strict", Json()) == true;
  NF_TRY(const Json* parameters, parameters_of(function, place));
  if (is_strict) NF_RETURN_IF_ERROR(check_parameters(*parameters, place));
  const Json& root = function.contains("parameters") ? function["parameters"] : *parameters;
  std::set<std::string> required;
  const Json properties = properties_of(*parameters, required);
  for (const auto& [key, schema] : properties.items()) {
    if (schema == false && !required.contains(key)) continue;
    if (!fits_a_tag(key)) {
      return error(
          ErrorCode::kUnsupported,
          place + ".parameters: a name with <, >, a line break or more than 256 bytes cannot be given");
    }
    NF_TRY(Expr value,
           add_json_schema(builder, strings, schema, root, place + ".parameters.properties." + key,
                           {.for_tool = true, .is_lenient = !is_strict}));
    Expr parameter =
        sequence({literal("<parameter=" + key + ">\n"), std::move(value), literal("\n</parameter>\n")});
    parts.push_back(repeat(std::move(parameter), required.contains(key) ? 1 : 0, 1));
  }
  parts.push_back(literal("</function>"));
  return sequence(std::move(parts));
}

}  // namespace

Result<Grammar> from_tool_calls(const Json& tools, std::string_view name, bool several) {
  if (!tools.is_array() || tools.empty())
    return error(ErrorCode::kInvalidArgument, "tools: expected a list that is not empty");
  GrammarBuilder builder;
  Strings strings(builder);
  std::vector<Expr> functions;
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string place = fmt::format("tools[{}].function", i);
    const Json& tool = tools[i];
    if (!tool.is_object() || !tool.contains("function") || !tool["function"].is_object() ||
        !tool["function"].contains("name") || !tool["function"]["name"].is_string())
      return error(ErrorCode::kInvalidArgument, place + ": expected an object with a name");
    if (!name.empty() && tool["function"]["name"] != name) continue;
    NF_TRY(Expr function, function_call(builder, strings, tool["function"], place));
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
