#include "io/json_schema.h"

#include <algorithm>
#include <string_view>

#include <nlohmann/json.hpp>

namespace nemoforge::io {
namespace {

constexpr int kMaxDepth = 128;
constexpr int kMaxSteps = 100'000;

// Code points of a string, as lengths count them.
int64_t num_code_points(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

bool is_whole(const Json& value) {
  if (value.is_number_integer()) return true;
  constexpr double kBeyondFractions = 1e18;
  if (!value.is_number()) return false;
  const double number = value.get<double>();
  return number >= kBeyondFractions || number <= -kBeyondFractions ||
         number == static_cast<double>(static_cast<int64_t>(number));
}

// Types that JSON Schema does not know say nothing.
bool has_type(const Json& value, const std::string& type) {
  if (type == "string") return value.is_string();
  if (type == "integer") return is_whole(value);
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  return true;
}

class Validator {
 public:
  explicit Validator(const Json& root) : root_(root) {}

  bool check(const Json& value, const Json& schema, int depth) {
    if (schema.is_boolean()) return schema.get<bool>();
    if (!schema.is_object() || depth > kMaxDepth || ++num_steps_ > kMaxSteps) return true;
    if (value.is_null() && is_true(schema, "nullable")) return true;
    return has_one_of_types(value, schema) && is_listed(value, schema) && keeps_bounds(value, schema) &&
           keeps_lengths(value, schema) && keeps_members(value, schema, depth) &&
           keeps_items(value, schema, depth) && keeps_properties(value, schema, depth);
  }

 private:
  static bool is_true(const Json& schema, const char* key) {
    const auto found = schema.find(key);
    return found != schema.end() && found->is_boolean() && found->get<bool>();
  }

  static bool has_one_of_types(const Json& value, const Json& schema) {
    const auto type = schema.find("type");
    if (type == schema.end()) return true;
    if (type->is_string()) return has_type(value, type->get_ref<const std::string&>());
    if (!type->is_array()) return true;
    return std::any_of(type->begin(), type->end(), [&](const Json& one) {
      return !one.is_string() || has_type(value, one.get_ref<const std::string&>());
    });
  }

  static bool is_listed(const Json& value, const Json& schema) {
    if (const auto only = schema.find("const"); only != schema.end() && *only != value) return false;
    const auto values = schema.find("enum");
    return values == schema.end() || !values->is_array() ||
           std::find(values->begin(), values->end(), value) != values->end();
  }

  static bool keeps_bounds(const Json& value, const Json& schema) {
    if (!value.is_number()) return true;
    const auto bound = [&](const char* key) -> const Json* {
      const auto found = schema.find(key);
      return found != schema.end() && found->is_number() ? &*found : nullptr;
    };
    // In the drafts up to 4 an exclusive bound was a flag.
    if (const Json* min = bound("minimum"))
      if (value < *min || (is_true(schema, "exclusiveMinimum") && value == *min)) return false;
    if (const Json* max = bound("maximum"))
      if (value > *max || (is_true(schema, "exclusiveMaximum") && value == *max)) return false;
    if (const Json* min = bound("exclusiveMinimum"); min && value <= *min) return false;
    if (const Json* max = bound("exclusiveMaximum"); max && value >= *max) return false;
    const Json* divisor = bound("multipleOf");
    const bool are_whole = divisor && divisor->is_number_integer() && value.is_number_integer();
    return !are_whole || divisor->get<int64_t>() <= 0 || value.get<int64_t>() % divisor->get<int64_t>() == 0;
  }

  // Whether `schema` allows the count, by a pair of its keys.
  static bool allows_count(int64_t count, const Json& schema, const char* min_key, const char* max_key) {
    const auto min = schema.find(min_key);
    if (min != schema.end() && min->is_number() && Json(count) < *min) return false;
    const auto max = schema.find(max_key);
    return max == schema.end() || !max->is_number() || Json(count) <= *max;
  }

  static bool keeps_lengths(const Json& value, const Json& schema) {
    const auto size = static_cast<int64_t>(value.size());
    if (value.is_array()) return allows_count(size, schema, "minItems", "maxItems");
    if (value.is_object()) return allows_count(size, schema, "minProperties", "maxProperties");
    if (!value.is_string() || (!schema.contains("minLength") && !schema.contains("maxLength"))) return true;
    return allows_count(num_code_points(value.get_ref<const std::string&>()), schema, "minLength",
                        "maxLength");
  }

  bool keeps_members(const Json& value, const Json& schema, int depth) {
    const auto is_valid = [&](const Json& member) { return check(value, member, depth + 1); };
    if (const auto ref = schema.find("$ref"); ref != schema.end() && ref->is_string()) {
      const Json* target = find_reference(ref->get_ref<const std::string&>(), root_);
      if (target != nullptr && !is_valid(*target)) return false;
    }
    for (const char* key : {"anyOf", "oneOf"}) {
      const auto members = schema.find(key);
      if (members == schema.end() || !members->is_array()) continue;
      if (std::none_of(members->begin(), members->end(), is_valid)) return false;
    }
    const auto members = schema.find("allOf");
    return members == schema.end() || !members->is_array() ||
           std::all_of(members->begin(), members->end(), is_valid);
  }

  bool keeps_items(const Json& value, const Json& schema, int depth) {
    if (!value.is_array()) return true;
    size_t begin = 0;
    if (const auto first = schema.find("prefixItems"); first != schema.end() && first->is_array()) {
      for (; begin < std::min(first->size(), value.size()); ++begin) {
        if (!check(value[begin], (*first)[begin], depth + 1)) return false;
      }
    }
    const auto items = schema.find("items");
    if (items == schema.end()) return true;
    return std::all_of(value.begin() + static_cast<ptrdiff_t>(begin), value.end(),
                       [&](const Json& item) { return check(item, *items, depth + 1); });
  }

  bool keeps_properties(const Json& value, const Json& schema, int depth) {
    if (!value.is_object()) return true;
    if (const auto required = schema.find("required"); required != schema.end() && required->is_array()) {
      for (const Json& name : *required) {
        if (name.is_string() && !value.contains(name.get_ref<const std::string&>())) return false;
      }
    }
    const auto properties = schema.find("properties");
    const auto additional = schema.find("additionalProperties");
    for (const auto& [name, member] : value.items()) {
      if (properties != schema.end() && properties->is_object() && properties->contains(name)) {
        if (!check(member, (*properties)[name], depth + 1)) return false;
      } else if (additional != schema.end() && !schema.contains("patternProperties")) {
        if (!check(member, *additional, depth + 1)) return false;
      }
    }
    return true;
  }

  const Json& root_;
  int num_steps_ = 0;
};

}  // namespace

const Json* find_reference(const std::string& ref, const Json& root) {
  if (!ref.starts_with('#')) return nullptr;
  try {
    const Json::json_pointer pointer(ref.substr(1));
    return root.contains(pointer) ? &root.at(pointer) : nullptr;
  } catch (const nlohmann::json::exception&) {
    return nullptr;  // not a pointer
  }
}

bool may_be_valid(const Json& value, const Json& schema, const Json& root) {
  return Validator(root).check(value, schema, 0);
}

}  // namespace nemoforge::io
