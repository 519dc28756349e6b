#include "text/jinja/template.h"

#include <nlohmann/json.hpp>

#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

// Levels deeper than the runtime allows are not followed: the value is refused anyway.
Value from_json(Runtime& runtime, const io::Json& json, int level) {
  if (level > runtime.limits().max_value_depth) return runtime.list({});
  switch (json.type()) {
    case io::Json::value_t::boolean:
      return Value(json.get<bool>());
    case io::Json::value_t::number_integer:
      return Value(json.get<int64_t>());
    case io::Json::value_t::number_unsigned:
      return Value(static_cast<Int>(json.get<uint64_t>()));
    case io::Json::value_t::number_float:
      return Value(json.get<double>());
    case io::Json::value_t::string:
      return runtime.string(json.get_ref<const std::string&>());
    case io::Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(runtime, item, level + 1));
      return runtime.list(std::move(items));
    }
    case io::Json::value_t::object: {
      std::vector<std::pair<Value, Value>> entries;
      entries.reserve(json.size());
      for (const auto& [key, item] : json.items()) {
        entries.emplace_back(runtime.string(key), from_json(runtime, item, level + 1));
      }
      return runtime.dict(std::move(entries));
    }
    default:
      return Value();
  }
}

}  // namespace

Result<Template> Template::parse(std::string_view source) {
  NF_TRY(Tree tree, jinja::parse(source));
  return Template(std::make_shared<const Tree>(std::move(tree)));
}

Result<std::string> Template::render(const std::vector<std::pair<std::string, io::Json>>& variables,
                                     const Limits& limits) const {
  Interpreter interpreter(*tree_, limits);
  std::vector<std::pair<std::string, Value>> values;
  values.reserve(variables.size());
  for (const auto& [name, json] : variables) values.emplace_back(name, from_json(interpreter, json, 1));
  NF_RETURN_IF_ERROR(interpreter.check());
  return interpreter.render(values);
}

}  // namespace nemoforge::text::jinja
