#include "grammar/schema_merge.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "grammar/schema_keywords.h"
#include "io/json_schema.h"

namespace nemoforge::grammar {
namespace {

using io::Json;

constexpr int kMaxDepth = 32;

std::vector<std::string> types_of(const Json& type) {
  std::vector<std::string> out;
  if (type.is_string()) out.push_back(type.get<std::string>());
  if (type.is_array()) {
    for (const Json& one : type)
      if (one.is_string()) out.push_back(one.get<std::string>());
  }
  return out;
}

// The types in both; an integer is a number.
std::vector<std::string> common_types(const Json& a, const Json& b) {
  std::vector<std::string> out;
  for (const std::string& one : types_of(a)) {
    for (const std::string& other : types_of(b)) {
      const bool narrows = one == "number" && other == "integer";
      if (one == other || narrows || (one == "integer" && other == "number"))
        out.push_back(narrows ? other : one);
    }
  }
  return out;
}

class Merger {
 public:
  Merger(const Json& root, const std::string& place) : root_(root), place_(place) {}

  Result<Json> merge(const Json& a, const Json& b, int depth) const {
    if (depth > kMaxDepth)
      return error(ErrorCode::kUnsupported, place_ + ": schemas are nested too deep here");
    if (a.is_boolean()) return a.get<bool>() ? b : a;
    if (b.is_boolean()) return b.get<bool>() ? a : b;
    if (!a.is_object() || !b.is_object())
      return error(ErrorCode::kInvalidArgument, place_ + ": expected a schema, which is an object");
    if (a.contains("$ref")) return merge_target(a, b, depth);
    if (b.contains("$ref")) return merge_target(b, a, depth);
    NF_RETURN_IF_ERROR(check_closed(a, b));
    NF_RETURN_IF_ERROR(check_closed(b, a));
    Json out = a;
    // Null is among the values only where both say so.
    if (a.value("nullable", Json(false)) != b.value("nullable", Json(false))) out.erase("nullable");
    for (const auto& [key, value] : b.items()) {
      if (key == "nullable") continue;
      const auto own = out.find(key);
      if (own == out.end()) {
        out[key] = value;
      } else if (*own != value && !is_annotation(key)) {
        NF_TRY(const bool is_possible, merge_keyword(key, *own, value, depth));
        if (!is_possible) return Json(false);
      }
    }
    return out;
  }

 private:
  // `schema`, which has a $ref, with `other`.
  Result<Json> merge_target(const Json& schema, const Json& other, int depth) const {
    const Json& ref = schema["$ref"];
    const Json* target =
        ref.is_string() ? io::find_reference(ref.get_ref<const std::string&>(), root_) : nullptr;
    if (target == nullptr)
      return error(ErrorCode::kInvalidArgument, place_ + ".$ref: there is no " + io::dump_json(ref));
    Json rest = schema;
    rest.erase("$ref");
    NF_TRY(const Json merged, merge(*target, rest, depth + 1));
    return merge(merged, other, depth + 1);
  }

  // An object that is closed to other properties takes none of the other schema's.
  [[nodiscard]] Status check_closed(const Json& closed, const Json& other) const {
    const auto additional = closed.find("additionalProperties");
    const auto properties = other.find("properties");
    if (additional == closed.end() || *additional == true || properties == other.end()) return {};
    for (const auto& [name, value] : properties->items()) {
      if (closed.contains("properties") && closed["properties"].contains(name)) continue;
      return error(ErrorCode::kUnsupported,
                   place_ + ".additionalProperties: cannot be enforced beside properties of another schema");
    }
    return {};
  }

  // Narrows `own` to what `other` allows as well; false where nothing is left.
  Result<bool> merge_keyword(const std::string& key, Json& own, const Json& other, int depth) const {
    if (key == "type") {
      const std::vector<std::string> types = common_types(own, other);
      if (types.size() == 1) own = types[0];
      if (types.size() != 1) own = types;
      return !types.empty();
    }
    if (key == "const") return false;
    if (key == "enum" && own.is_array() && other.is_array()) {
      Json values = Json::array();
      for (const Json& value : own)
        if (std::find(other.begin(), other.end(), value) != other.end()) values.push_back(value);
      own = std::move(values);
      return !own.empty();
    }
    const bool are_numbers = own.is_number() && other.is_number();
    const bool is_lower = key == "minimum" || key == "exclusiveMinimum" || key.starts_with("min");
    const bool is_upper = key == "maximum" || key == "exclusiveMaximum" || key.starts_with("max");
    if (are_numbers && (is_lower || is_upper)) {
      if (is_lower ? other > own : other < own) own = other;
      return true;
    }
    if (key == "required" && own.is_array() && other.is_array()) {
      for (const Json& name : other)
        if (std::find(own.begin(), own.end(), name) == own.end()) own.push_back(name);
      return true;
    }
    if (key == "properties" && own.is_object() && other.is_object()) {
      for (const auto& [name, schema] : other.items()) {
        if (!own.contains(name)) {
          own[name] = schema;
          continue;
        }
        NF_TRY(own[name], merge(own[name], schema, depth + 1));
      }
      return true;
    }
    if (key == "items" || key == "additionalProperties") {
      NF_TRY(own, merge(own, other, depth + 1));
      return true;
    }
    return error(ErrorCode::kUnsupported, place_ + "." + key + ": cannot be enforced twice for one value");
  }

  const Json& root_;
  const std::string& place_;
};

}  // namespace

Result<Json> merge_schemas(const Json& a, const Json& b, const Json& root, const std::string& place) {
  return Merger(root, place).merge(a, b, 0);
}

}  // namespace nemoforge::grammar
