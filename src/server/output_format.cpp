#include "server/output_format.h"

#include <array>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace nemoforge::server {
namespace {

using grammar::Grammar;

// One demand on the answer: its kind (json, regex, choice, grammar, json_object), its value, and the field
// that the client knows it by.
struct Demand {
  std::string kind;
  io::Json value;
  std::string field;
  bool is_compact = false;  // JSON without white space
};

bool is_given(const io::Json& object, const std::string& name) {
  const auto found = object.find(name);
  return found != object.end() && !found->is_null();
}

tl::unexpected<Error> invalid(const Demand& demand, const std::string& what) {
  return error(ErrorCode::kInvalidArgument, fmt::format("{} {}", demand.field, what));
}

Result<std::optional<Demand>> response_format_demand(const io::Json& body) {
  if (!is_given(body, "response_format")) return std::nullopt;
  const io::Json& format = body.at("response_format");
  Demand demand{.kind = {}, .value = nullptr, .field = "response_format", .is_compact = false};
  if (!format.is_object() || !is_given(format, "type") || !format.at("type").is_string())
    return invalid(demand, "must be an object with a type.");
  const auto& type = format.at("type").get_ref<const std::string&>();
  if (type == "text") return std::nullopt;
  if (type == "json_object") {
    demand.kind = "json_object";
    demand.value = true;
    return demand;
  }
  if (type != "json_schema")
    return error(ErrorCode::kUnsupported,
                 fmt::format("response_format of type '{}' is not supported.", type));
  if (!is_given(format, "json_schema") || !format.at("json_schema").is_object() ||
      !is_given(format.at("json_schema"), "schema"))
    return invalid(demand, "of type json_schema must have json_schema.schema.");
  demand.kind = "json";
  demand.value = format.at("json_schema").at("schema");
  return demand;
}

// Every demand of the body.
Result<std::vector<Demand>> demands_of(const io::Json& body) {
  std::vector<Demand> demands;
  NF_TRY(auto format, response_format_demand(body));
  if (format) demands.push_back(*std::move(format));
  constexpr std::array kKinds = {"json", "regex", "choice", "grammar", "json_object"};
  if (is_given(body, "structured_outputs")) {
    const io::Json& outputs = body.at("structured_outputs");
    if (!outputs.is_object())
      return error(ErrorCode::kInvalidArgument, "structured_outputs must be an object.");
    if (is_given(outputs, "structural_tag"))
      return error(ErrorCode::kUnsupported, "structured_outputs.structural_tag is not supported.");
    const io::Json compact = outputs.value("disable_any_whitespace", io::Json(nullptr));
    if (!compact.is_null() && !compact.is_boolean())
      return error(ErrorCode::kInvalidArgument,
                   "structured_outputs.disable_any_whitespace must be a boolean.");
    for (const std::string kind : kKinds) {
      if (is_given(outputs, kind) && outputs.at(kind) != false)
        demands.push_back({kind, outputs.at(kind), "structured_outputs." + kind, compact == true});
    }
  }
  for (const std::string kind : {"json", "regex", "choice", "grammar"}) {
    if (is_given(body, "guided_" + kind))
      demands.push_back({kind, body.at("guided_" + kind), "guided_" + kind, false});
  }
  return demands;
}

Result<Grammar> compile_choice(const Demand& demand) {
  std::vector<std::string> strings;
  if (!demand.value.is_array()) return invalid(demand, "must be a list of strings.");
  for (const io::Json& item : demand.value) {
    if (!item.is_string()) return invalid(demand, "must be a list of strings.");
    strings.push_back(item.get<std::string>());
  }
  return grammar::from_choice(strings);
}

Result<Grammar> compile_schema(const Demand& demand) {
  if (!demand.value.is_string()) return grammar::from_json_schema(demand.value, demand.is_compact);
  NF_TRY(const io::Json schema, io::parse_json(demand.value.get_ref<const std::string&>()));
  return grammar::from_json_schema(schema, demand.is_compact);
}

Result<Grammar> compile(const Demand& demand) {
  if (demand.kind == "choice") return compile_choice(demand);
  if (demand.kind == "json") return compile_schema(demand);
  if (demand.kind == "json_object") {
    if (demand.value != true) return invalid(demand, "must be true or false.");
    return grammar::from_json_object(demand.is_compact);
  }
  if (!demand.value.is_string()) return invalid(demand, "must be a string.");
  const auto& text = demand.value.get_ref<const std::string&>();
  return demand.kind == "regex" ? grammar::from_regex(text) : grammar::from_ebnf(text);
}

}  // namespace

Result<std::shared_ptr<const Grammar>> read_output_format(const io::Json& body) {
  NF_TRY(const std::vector<Demand> demands, demands_of(body));
  if (demands.empty()) return nullptr;
  if (demands.size() > 1)
    return invalid(demands[1], fmt::format("cannot be given together with {}.", demands[0].field));
  auto compiled = compile(demands[0]);
  if (!compiled) {
    // A schema as text that is not JSON, and what a grammar cannot say, are the client's faults alike.
    const ErrorCode code = compiled.error().code == ErrorCode::kUnsupported ? ErrorCode::kUnsupported
                                                                            : ErrorCode::kInvalidArgument;
    const std::string& message = compiled.error().message;
    return error(code, message.starts_with(demands[0].field)
                           ? message
                           : fmt::format("{}: {}", demands[0].field, message));
  }
  return std::make_shared<const Grammar>(*std::move(compiled));
}

}  // namespace nemoforge::server
