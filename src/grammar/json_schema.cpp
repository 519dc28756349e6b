#include "grammar/json_schema.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "grammar/number_range.h"
#include "grammar/schema_keywords.h"
#include "grammar/schema_merge.h"
#include "io/json_schema.h"

namespace nemoforge::grammar {
namespace {

using io::Json;

constexpr int kMaxSchemaDepth = 64;
constexpr size_t kMaxSchemas = 20'000;
constexpr size_t kMaxMergedBytes = 16u << 20;

class SchemaCompiler {
 public:
  // References are looked up in `root`.
  SchemaCompiler(GrammarBuilder& builder, Strings& strings, const Json& root, const SchemaOptions& options)
      : builder_(builder),
        strings_(strings),
        root_(root),
        options_(options),
        nested_(options.for_tool ? StringForm::kToolJson : StringForm::kJson) {
    const Expr indentation = repeat(one_of({{' ', ' '}, {'\t', '\t'}}), 0, 40);
    space_ = options.is_compact
                 ? sequence({})
                 : repeat(choice({literal(" "), sequence({literal("\n"), indentation})}), 0, 1);
    const Expr digit = one_of({{'0', '9'}});
    integer_ = sequence({repeat(literal("-"), 0, 1),
                         choice({literal("0"), sequence({one_of({{'1', '9'}}), repeat(digit, 0, 17)})})});
    number_ =
        sequence({integer_, repeat(sequence({literal("."), repeat(digit, 1, 20)}), 0, 1),
                  repeat(sequence({one_of({{'e', 'e'}, {'E', 'E'}}),
                                   repeat(one_of({{'+', '+'}, {'-', '-'}}), 0, 1), repeat(digit, 1, 2)}),
                         0, 1)});
  }

  Result<Expr> compile(const Json& schema, const std::string& place) {
    return compile(schema, place, 0, options_.for_tool ? StringForm::kToolText : StringForm::kJson);
  }

  Expr any_object() {
    if (any_object_rule_ < 0) {
      any_object_rule_ = builder_.add_rule();
      builder_.define(any_object_rule_,
                      list("{", sequence({strings_.any(nested_), colon(), any_json()}), "}", 0, -1));
    }
    return rule_of(any_object_rule_);
  }

 private:
  int32_t define(Expr expression) {
    const int32_t rule = builder_.add_rule();
    builder_.define(rule, std::move(expression));
    return rule;
  }

  Expr comma() const { return sequence({space_, literal(","), space_}); }
  Expr colon() const { return sequence({space_, literal(":"), space_}); }

  Expr any_json() {
    if (any_rule_ < 0) {
      any_rule_ = builder_.add_rule();
      builder_.define(any_rule_, choice({strings_.any(nested_), number_, any_object(),
                                         list("[", rule_of(any_rule_), "]", 0, -1), literal("true"),
                                         literal("false"), literal("null")}));
    }
    return rule_of(any_rule_);
  }

  // Any text is a value where strings have no quotes.
  Expr any_value(StringForm form) { return form == StringForm::kToolText ? strings_.any(form) : any_json(); }

  Expr list(std::string_view open, const Expr& item, std::string_view close, int32_t min, int32_t max) {
    std::vector<Expr> parts = {literal(open), space_};
    if (max != 0) {
      const Expr more = repeat(sequence({comma(), item}), std::max(min - 1, 0), max < 0 ? -1 : max - 1);
      parts.push_back(repeat(sequence({item, more}), min > 0 ? 1 : 0, 1));
    }
    parts.insert(parts.end(), {space_, literal(close)});
    return sequence(std::move(parts));
  }

  static tl::unexpected<Error> invalid(const std::string& place, const std::string& expected) {
    return error(ErrorCode::kInvalidArgument, place + ": expected " + expected);
  }

  // Names the first keyword of `schema` that is neither an annotation nor among `known`, unless such are left
  // out here.
  [[nodiscard]] Status check_keywords(const Json& schema, const std::string& place,
                                      std::initializer_list<std::string_view> known) const {
    if (options_.is_lenient) return {};
    for (const auto& [key, value] : schema.items()) {
      const auto is_key = [&key = key](std::string_view other) { return key == other; };
      if (is_annotation(key) || key == "nullable" || std::any_of(known.begin(), known.end(), is_key))
        continue;
      return error(ErrorCode::kUnsupported, place + "." + key + ": this keyword cannot be enforced here",
                   "leave it out, and check the output for it");
    }
    return {};
  }

  Result<Expr> compile(const Json& schema, const std::string& place, int depth, StringForm form) {
    auto compiled = compile_as_it_is(schema, place, depth, form);
    if (!compiled && options_.is_lenient && compiled.error().code == ErrorCode::kUnsupported)
      return any_value(form);
    return compiled;
  }

  Result<Expr> compile_as_it_is(const Json& schema, const std::string& place, int depth, StringForm form) {
    if (depth > kMaxSchemaDepth) return invalid(place, "a schema nested at most 64 deep");
    if (++num_schemas_ > kMaxSchemas) return invalid(place, "a schema of at most 20000 parts");
    if (schema == true) return any_value(form);
    if (!schema.is_object())
      return invalid(place, "a schema, which is an object under which something is valid");
    if (schema.value("nullable", Json()) == true) {
      Json rest = schema;
      rest.erase("nullable");
      NF_TRY(Expr value, compile(rest, place, depth + 1, form));
      return choice({std::move(value), literal("null")});
    }
    if (schema.contains("$ref")) return compile_ref(schema, place, depth, form);
    if (schema.contains("allOf")) return compile_all_of(schema, place, depth, form);
    for (const char* key : {"anyOf", "oneOf"}) {
      if (schema.contains(key)) return compile_members(schema, key, place, depth, form);
    }
    if (schema.contains("const")) return compile_values(schema, Json::array({schema["const"]}), place, form);
    if (schema.contains("enum")) return compile_values(schema, schema["enum"], place, form);
    const auto type = schema.find("type");
    if (type == schema.end()) return compile_untyped(schema, place, depth, form);
    if (type->is_string()) return compile_type(schema, type->get<std::string>(), place, depth, form);
    if (!type->is_array() || type->empty())
      return invalid(place + ".type", "a string or an array of strings");
    std::vector<Expr> parts;
    for (const Json& one : *type) {
      if (!one.is_string()) return invalid(place + ".type", "a string or an array of strings");
      NF_TRY(Expr part, compile_type(schema, one.get<std::string>(), place, depth, form));
      parts.push_back(std::move(part));
    }
    return choice(std::move(parts));
  }

  Result<Expr> compile_untyped(const Json& schema, const std::string& place, int depth, StringForm form) {
    for (const auto& [key, value] : schema.items()) {
      if (const std::string_view type = type_of_keyword(key); !type.empty())
        return compile_type(schema, std::string(type), place, depth, form);
    }
    NF_RETURN_IF_ERROR(check_keywords(schema, place, {}));
    return any_value(form);
  }

  Result<Expr> compile_type(const Json& whole, const std::string& type, const std::string& place, int depth,
                            StringForm form) {
    const Json schema = keywords_about(whole, type);
    if (type == "object") return compile_object(schema, place, depth);
    if (type == "array") return compile_array(schema, place, depth);
    if (type == "string") return compile_string(schema, place, form);
    if (type == "integer" || type == "number") return compile_number(schema, place, type == "integer");
    NF_RETURN_IF_ERROR(check_keywords(schema, place, {"type"}));
    if (type == "boolean") return choice({literal("true"), literal("false")});
    if (type == "null") return literal("null");
    return invalid(place + ".type", "a type of JSON Schema, got \"" + type + "\"");
  }

  Result<Expr> compile_string(const Json& schema, const std::string& place, StringForm form) {
    NF_RETURN_IF_ERROR(
        check_keywords(schema, place, {"type", "pattern", "format", "minLength", "maxLength"}));
    auto compiled = strings_.of(schema, form, place);
    if (!compiled && options_.is_lenient && compiled.error().code == ErrorCode::kUnsupported)
      return strings_.any(form);
    return compiled;
  }

  Result<Expr> compile_number(const Json& schema, const std::string& place, bool is_integer) {
    const bool are_whole = is_integer || schema.value("multipleOf", Json()) == 1;
    const auto divisor = schema.find("multipleOf");
    if (divisor != schema.end() && *divisor != 1 && !options_.is_lenient) {
      return error(ErrorCode::kUnsupported, place + ".multipleOf: this keyword cannot be enforced here",
                   "leave it out, and check the output for it");
    }
    NF_RETURN_IF_ERROR(check_keywords(
        schema, place, {"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}));
    const Limits limits = limits_in_schema(schema);
    if (!limits.min && !limits.max) return are_whole ? integer_ : number_;
    if (Expr within = are_whole ? integers_within(limits) : numbers_within(limits)) return within;
    if (options_.is_lenient) return are_whole ? integer_ : number_;
    return error(ErrorCode::kUnsupported,
                 place + ": there is no number within these limits that can be written");
  }

  Result<Expr> compile_ref(const Json& schema, const std::string& place, int depth, StringForm form) {
    const Json& ref = schema["$ref"];
    if (!ref.is_string() || !ref.get_ref<const std::string&>().starts_with('#')) {
      return error(ErrorCode::kUnsupported,
                   place + ".$ref: only references into the schema itself (#/...) are taken");
    }
    const auto& name = ref.get_ref<const std::string&>();
    const Json* target = io::find_reference(name, root_);
    if (target == nullptr) return error(ErrorCode::kInvalidArgument, place + ".$ref: there is no " + name);
    Json rest = without_annotations(schema, "$ref");
    if (!rest.empty()) {
      NF_TRY(const Json merged, merge(*target, rest, place));
      return compile(merged, place, depth + 1, form);
    }
    const auto [found, is_new] = refs_.try_emplace({name, form});
    Reference& reference = found->second;
    if (!is_new) {
      if (reference.error) return tl::unexpected(*reference.error);
      return rule_of(reference.rule);
    }
    const int32_t rule = reference.rule = builder_.add_rule();
    auto body = compile(*target, name, depth + 1, form);
    if (!body) {
      // A union may go on without it. What was compiled meanwhile may refer to it, and is compiled anew.
      builder_.define(rule, choice({}));
      std::erase_if(refs_, [&](const auto& other) { return other.second.rule > rule; });
      refs_[{name, form}].error = body.error();
      return body;
    }
    builder_.define(rule, *std::move(body));
    return rule_of(rule);
  }

  // What `schema` says besides `key`.
  static Json without_annotations(const Json& schema, const std::string& key) {
    Json out = Json::object();
    for (const auto& [name, value] : schema.items()) {
      if (name != key && name != "nullable" && !is_annotation(name)) out[name] = value;
    }
    return out;
  }

  Result<Json> merge(const Json& a, const Json& b, const std::string& place) {
    NF_TRY(Json merged, merge_schemas(a, b, root_, place));
    num_merged_bytes_ += io::dump_json(merged).size();
    if (num_merged_bytes_ > kMaxMergedBytes) return invalid(place, "a schema that is put together of less");
    return merged;
  }

  Result<Expr> compile_values(const Json& schema, const Json& values, const std::string& place,
                              StringForm form) {
    NF_RETURN_IF_ERROR(check_keywords(schema, place,
                                      {"const", "enum", "type", "format", "minimum", "maximum",
                                       "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"}));
    if (!values.is_array() || values.empty()) return invalid(place + ".enum", "an array that is not empty");
    std::vector<Expr> parts;
    for (const Json& value : values) {
      if (!io::may_be_valid(value, schema, root_)) continue;
      if (!value.is_string()) {
        parts.push_back(literal(json_text(value, nested_)));
        continue;
      }
      NF_TRY(Expr text, strings_.only(value.get_ref<const std::string&>(), form, place));
      parts.push_back(std::move(text));
    }
    if (parts.empty()) return invalid(place, "a value that the schema allows");
    return choice(std::move(parts));
  }

  Result<Expr> compile_all_of(const Json& schema, const std::string& place, int depth, StringForm form) {
    const Json& members = schema["allOf"];
    if (!members.is_array() || members.empty())
      return invalid(place + ".allOf", "an array that is not empty");
    Json merged = without_annotations(schema, "allOf");
    for (const Json& member : members) {
      NF_TRY(merged, merge(merged, member, place + ".allOf"));
    }
    return compile(merged, place, depth + 1, form);
  }

  // Of members that cannot be enforced none is written, where there are others but null.
  Result<Expr> compile_members(const Json& schema, const std::string& key, const std::string& place,
                               int depth, StringForm form) {
    const Json& members = schema[key];
    if (!members.is_array() || members.empty())
      return invalid(place + "." + key, "an array that is not empty");
    const Json rest = without_annotations(schema, key);
    std::vector<Expr> parts;
    std::optional<Error> unsupported;
    bool has_value = false;
    for (size_t i = 0; i < members.size(); ++i) {
      const std::string place_of_member = place + "." + key + "[" + std::to_string(i) + "]";
      Result<Json> member = members[i];
      if (!rest.empty()) member = merge(rest, members[i], place_of_member);
      if (member && *member == false) continue;
      auto part =
          member ? compile(*member, place_of_member, depth + 1, form) : forward_error(std::move(member));
      if (part) {
        has_value = has_value || member->value("type", Json()) != "null";
        parts.push_back(*std::move(part));
      } else if (part.error().code == ErrorCode::kUnsupported) {
        unsupported = part.error();
      } else {
        return part;
      }
    }
    if (unsupported && !has_value) return tl::unexpected(*std::move(unsupported));
    if (parts.empty()) return invalid(place + "." + key, "a member that allows something");
    return choice(std::move(parts));
  }

  Result<Expr> compile_array(const Json& schema, const std::string& place, int depth) {
    const bool is_unique = schema.value("uniqueItems", Json()) == true;
    NF_TRY(const int32_t min, count_in_schema(schema, "minItems", 0, place));
    NF_TRY(int32_t max, count_in_schema(schema, "maxItems", -1, place));
    if (max >= 0 && max < min) return invalid(place + ".maxItems", "at least minItems");
    if (is_unique && (max < 0 || max > 1) && !options_.is_lenient) {
      return error(ErrorCode::kUnsupported, place + ".uniqueItems: this keyword cannot be enforced here",
                   "leave it out, and check the output for it");
    }
    NF_RETURN_IF_ERROR(check_keywords(
        schema, place, {"type", "items", "prefixItems", "minItems", "maxItems", "uniqueItems"}));
    if (schema.contains("prefixItems")) return compile_tuple(schema, place, depth, min, max);
    const Json items = schema.value("items", Json(true));
    if (items == false) max = 0;
    if (max == 0 && min == 0) return list("[", sequence({}), "]", 0, 0);
    NF_TRY(Expr item, compile(items, place + ".items", depth + 1, nested_));
    return list("[", rule_of(define(std::move(item))), "]", min, max);
  }

  // Items of which the first have schemas of their own. None follows these unless `items` has a schema.
  Result<Expr> compile_tuple(const Json& schema, const std::string& place, int depth, int32_t min,
                             int32_t max) {
    const Json& first = schema["prefixItems"];
    if (!first.is_array()) return invalid(place + ".prefixItems", "an array");
    const auto size = static_cast<int32_t>(std::min(first.size(), kMaxSchemas));
    const int32_t num_first = max < 0 ? size : std::min(size, max);
    Expr tail = sequence({});
    const Json items = schema.value("items", Json(min > size));
    if (items.is_object() || items == true) {
      NF_TRY(Expr item, compile(items, place + ".items", depth + 1, nested_));
      const Expr next = sequence({num_first > 0 ? comma() : sequence({}), rule_of(define(std::move(item)))});
      tail = repeat(next, std::max(min - num_first, 0), max < 0 ? -1 : max - num_first);
    } else if (min > size) {
      return invalid(place + ".minItems", "at most the number of prefixItems, as no others are allowed");
    }
    for (int32_t i = num_first; i-- > 0;) {
      NF_TRY(Expr item, compile(first[static_cast<size_t>(i)],
                                place + ".prefixItems[" + std::to_string(i) + "]", depth + 1, nested_));
      Expr one = sequence({i > 0 ? comma() : sequence({}), std::move(item), std::move(tail)});
      tail = rule_of(define(i < min ? std::move(one) : repeat(std::move(one), 0, 1)));
    }
    return sequence({literal("["), space_, std::move(tail), space_, literal("]")});
  }

  Result<Expr> compile_object(const Json& schema, const std::string& place, int depth) {
    const Json additional = schema.value("additionalProperties", Json(true));
    Json properties = schema.value("properties", Json::object());
    if (!properties.is_object()) return invalid(place + ".properties", "an object");
    std::vector<std::string> required;
    const Json names = schema.value("required", Json::array());
    if (!names.is_array()) return invalid(place + ".required", "an array of strings");
    for (const Json& name : names) {
      if (!name.is_string()) return invalid(place + ".required", "an array of strings");
      required.push_back(name.get<std::string>());
      if (!properties.contains(required.back())) properties[required.back()] = additional;
      if (properties[required.back()] == false)
        return invalid(place + ".required",
                       "names of properties that are allowed, got \"" + required.back() + "\"");
    }
    std::sort(required.begin(), required.end());
    if (properties.empty()) return compile_map(schema, additional, place, depth);
    NF_RETURN_IF_ERROR(
        check_keywords(schema, place, {"type", "properties", "required", "additionalProperties"}));
    // From the last property to the first: what may follow when something has been written, and when nothing
    // has.
    Expr after_some = sequence({});
    Expr after_none = sequence({});
    std::vector<std::pair<std::string, const Json*>> in_order;
    for (const auto& [name, property] : properties.items()) {
      if (property != false) in_order.emplace_back(name, &property);
    }
    for (size_t i = in_order.size(); i-- > 0;) {
      const auto& [name, property] = in_order[i];
      NF_TRY(Expr value, compile(*property, place + ".properties." + name, depth + 1, nested_));
      const Expr pair =
          rule_of(define(sequence({literal(json_text(name, nested_)), colon(), std::move(value)})));
      const bool is_required = std::binary_search(required.begin(), required.end(), name);
      Expr some = sequence({comma(), pair, after_some});
      Expr first = sequence({pair, after_some});
      if (!is_required) {
        some = choice({std::move(some), after_some});
        first = choice({std::move(first), after_none});
      }
      after_some = rule_of(define(std::move(some)));
      after_none = rule_of(define(std::move(first)));
    }
    return sequence({literal("{"), space_, after_none, space_, literal("}")});
  }

  // An object without properties: keys of any name.
  Result<Expr> compile_map(const Json& schema, const Json& additional, const std::string& place, int depth) {
    NF_TRY(const int32_t min, count_in_schema(schema, "minProperties", 0, place));
    NF_TRY(const int32_t max, count_in_schema(schema, "maxProperties", -1, place));
    // The same key may come again.
    const bool counts = min <= 1 && (max < 0 || max >= min);
    NF_RETURN_IF_ERROR(check_keywords(schema, place,
                                      {"type", "properties", "required", "additionalProperties",
                                       "maxProperties", counts ? "minProperties" : ""}));
    if (additional == false) return sequence({literal("{"), space_, literal("}")});
    if (additional == true && min == 0 && max < 0) return any_object();
    NF_TRY(Expr value, compile(additional, place + ".additionalProperties", depth + 1, nested_));
    return list("{", rule_of(define(sequence({strings_.any(nested_), colon(), std::move(value)}))), "}",
                std::min(min, 1), max);
  }

  struct Reference {
    int32_t rule = -1;
    std::optional<Error> error;
  };

  GrammarBuilder& builder_;
  Strings& strings_;
  const Json& root_;
  SchemaOptions options_;
  StringForm nested_;  // of strings within arrays and objects
  Expr space_;
  Expr integer_;
  Expr number_;
  int32_t any_rule_ = -1;
  int32_t any_object_rule_ = -1;
  std::map<std::pair<std::string, StringForm>, Reference> refs_;
  size_t num_schemas_ = 0;
  size_t num_merged_bytes_ = 0;
};

}  // namespace

Result<Expr> add_json_schema(GrammarBuilder& builder, Strings& strings, const Json& schema, const Json& root,
                             const std::string& place, const SchemaOptions& options) {
  return SchemaCompiler(builder, strings, root, options).compile(schema, place);
}

Result<Grammar> from_json_schema(const Json& schema, bool is_compact) {
  GrammarBuilder builder;
  Strings strings(builder);
  NF_TRY(Expr value, add_json_schema(builder, strings, schema, schema, "schema", {.is_compact = is_compact}));
  const int32_t rule = builder.add_rule();
  builder.define(rule, std::move(value));
  return builder.build(rule);
}

Result<Grammar> from_json_object(bool is_compact) {
  GrammarBuilder builder;
  Strings strings(builder);
  const Json none = Json::object();
  const int32_t rule = builder.add_rule();
  builder.define(rule, SchemaCompiler(builder, strings, none, {.is_compact = is_compact}).any_object());
  return builder.build(rule);
}

}  // namespace nemoforge::grammar
