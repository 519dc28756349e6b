#include "grammar/json_schema.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "grammar/grammar.h"
#include "grammar/regex.h"

namespace nemoforge::grammar {
namespace {

using io::Json;

constexpr int kMaxSchemaDepth = 64;
constexpr size_t kMaxSchemas = 20'000;

// Keywords that say nothing about which values are valid.
constexpr std::array kAnnotations = {"title",    "description", "default",      "examples",    "$schema",
                                     "$id",      "$comment",    "$defs",        "definitions", "deprecated",
                                     "readOnly", "writeOnly",   "discriminator"};

struct Format {
  const char* name;
  const char* pattern;
};
constexpr std::array kFormats = {
    Format{"date", R"(^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$)"},
    Format{
        "time",
        R"(^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$)"},
    Format{
        "date-time",
        R"(^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$)"},
    Format{"uuid", R"(^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$)"},
};

class SchemaCompiler {
 public:
  // References are looked up in `root`.
  SchemaCompiler(GrammarBuilder& builder, const Json& root) : builder_(builder), root_(root) {
    space_ = repeat(
        choice({literal(" "), sequence({literal("\n"), repeat(one_of({{' ', ' '}, {'\t', '\t'}}), 0, 40)})}),
        0, 1);
    const Expr digit = one_of({{'0', '9'}});
    integer_ = sequence({repeat(literal("-"), 0, 1),
                         choice({literal("0"), sequence({one_of({{'1', '9'}}), repeat(digit, 0, 17)})})});
    number_ =
        sequence({integer_, repeat(sequence({literal("."), repeat(digit, 1, 20)}), 0, 1),
                  repeat(sequence({one_of({{'e', 'e'}, {'E', 'E'}}),
                                   repeat(one_of({{'+', '+'}, {'-', '-'}}), 0, 1), repeat(digit, 1, 2)}),
                         0, 1)});
    character_ = choice({json_string_character({{0, kMaxCodePoint}}), literal("\\/"), unicode_escape()});
    string_rule_ = define(quoted(repeat(character_, 0, -1)));
  }

  Result<Expr> compile(const Json& schema, const std::string& place) { return compile(schema, place, 0); }

  Expr any_object() {
    if (any_object_rule_ < 0) {
      any_object_rule_ = builder_.add_rule();
      builder_.define(any_object_rule_,
                      list("{", sequence({rule_of(string_rule_), colon(), any_value()}), "}", 0, -1));
    }
    return rule_of(any_object_rule_);
  }

 private:
  // \uXXXX of anything but surrogates, which would need a partner.
  static Expr unicode_escape() {
    const CodePointSet hex = {{'0', '9'}, {'a', 'f'}, {'A', 'F'}};
    const Expr digit = one_of(hex);
    const Expr not_d = one_of({{'0', '9'}, {'a', 'c'}, {'e', 'f'}, {'A', 'C'}, {'E', 'F'}});
    return sequence({literal("\\u"),
                     choice({sequence({not_d, digit}),
                             sequence({one_of({{'d', 'd'}, {'D', 'D'}}), one_of({{'0', '7'}})})}),
                     digit, digit});
  }

  int32_t define(Expr expression) {
    const int32_t rule = builder_.add_rule();
    builder_.define(rule, std::move(expression));
    return rule;
  }

  static Expr quoted(Expr inside) { return sequence({literal("\""), std::move(inside), literal("\"")}); }
  Expr comma() const { return sequence({space_, literal(","), space_}); }
  Expr colon() const { return sequence({space_, literal(":"), space_}); }

  Expr any_value() {
    if (any_rule_ < 0) {
      any_rule_ = builder_.add_rule();
      builder_.define(any_rule_, choice({rule_of(string_rule_), number_, any_object(),
                                         list("[", rule_of(any_rule_), "]", 0, -1), literal("true"),
                                         literal("false"), literal("null")}));
    }
    return rule_of(any_rule_);
  }

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

  // Names the first keyword of `schema` that is neither an annotation nor among `known`.
  static Status check_keywords(const Json& schema, const std::string& place,
                               std::initializer_list<std::string_view> known) {
    for (const auto& [key, value] : schema.items()) {
      const auto is_key = [&key = key](std::string_view other) { return key == other; };
      if (std::any_of(kAnnotations.begin(), kAnnotations.end(), is_key) ||
          std::any_of(known.begin(), known.end(), is_key)) {
        continue;
      }
      return error(ErrorCode::kUnsupported, place + "." + key + ": this keyword cannot be enforced here",
                   "leave it out, and check the output for it");
    }
    return {};
  }

  Result<Expr> compile(const Json& schema, const std::string& place, int depth) {
    if (depth > kMaxSchemaDepth) return invalid(place, "a schema nested at most 64 deep");
    if (++num_schemas_ > kMaxSchemas) return invalid(place, "a schema of at most 20000 parts");
    if (schema.is_boolean()) {
      return schema.get<bool>() ? any_value() : choice({});
    }
    if (!schema.is_object()) return invalid(place, "a schema, which is an object");
    if (schema.contains("$ref")) return compile_ref(schema, place, depth);
    if (schema.contains("const")) {
      NF_RETURN_IF_ERROR(check_keywords(schema, place, {"const", "type"}));
      return literal(io::dump_json(schema["const"]));
    }
    if (schema.contains("enum")) return compile_enum(schema, place);
    for (const char* key : {"anyOf", "oneOf", "allOf"}) {
      if (schema.contains(key)) return compile_members(schema, key, place, depth);
    }
    const auto type = schema.find("type");
    if (type == schema.end()) return compile_untyped(schema, place, depth);
    if (type->is_string()) return compile_type(schema, type->get<std::string>(), place, depth);
    if (!type->is_array() || type->empty())
      return invalid(place + ".type", "a string or an array of strings");
    std::vector<Expr> parts;
    for (const Json& one : *type) {
      if (!one.is_string()) return invalid(place + ".type", "a string or an array of strings");
      NF_TRY(Expr part, compile_type(only_of_type(schema, one.get<std::string>()), one.get<std::string>(),
                                     place, depth));
      parts.push_back(std::move(part));
    }
    return choice(std::move(parts));
  }

  // Of a schema of several types, the keywords that bear upon this one.
  static Json only_of_type(const Json& schema, const std::string& type) {
    static const std::map<std::string_view, std::string_view> kTypeOf = {
        {"pattern", "string"},   {"minLength", "string"},
        {"maxLength", "string"}, {"format", "string"},
        {"items", "array"},      {"minItems", "array"},
        {"maxItems", "array"},   {"properties", "object"},
        {"required", "object"},  {"additionalProperties", "object"}};
    Json out = Json::object();
    for (const auto& [key, value] : schema.items()) {
      const auto of = kTypeOf.find(key);
      if (of == kTypeOf.end() || of->second == type) out[key] = value;
    }
    return out;
  }

  Result<Expr> compile_untyped(const Json& schema, const std::string& place, int depth) {
    if (schema.contains("properties")) return compile_type(schema, "object", place, depth);
    if (schema.contains("items")) return compile_type(schema, "array", place, depth);
    if (schema.contains("pattern")) return compile_type(schema, "string", place, depth);
    NF_RETURN_IF_ERROR(check_keywords(schema, place, {}));
    return any_value();
  }

  Result<Expr> compile_type(const Json& schema, const std::string& type, const std::string& place,
                            int depth) {
    if (type == "object") return compile_object(schema, place, depth);
    if (type == "array") return compile_array(schema, place, depth);
    if (type == "string") return compile_string(schema, place);
    NF_RETURN_IF_ERROR(check_keywords(schema, place, {"type"}));
    if (type == "integer") return integer_;
    if (type == "number") return number_;
    if (type == "boolean") return choice({literal("true"), literal("false")});
    if (type == "null") return literal("null");
    return invalid(place + ".type", "a type of JSON Schema, got \"" + type + "\"");
  }

  Result<Expr> compile_ref(const Json& schema, const std::string& place, int depth) {
    NF_RETURN_IF_ERROR(check_keywords(schema, place, {"$ref"}));
    const Json& ref = schema["$ref"];
    if (!ref.is_string() || !ref.get_ref<const std::string&>().starts_with('#')) {
      return error(ErrorCode::kUnsupported,
                   place + ".$ref: only references into the schema itself (#/...) are taken");
    }
    const auto& name = ref.get_ref<const std::string&>();
    if (const auto known = refs_.find(name); known != refs_.end()) return rule_of(known->second);
    const Json* target = nullptr;
    try {
      const Json::json_pointer pointer(name.substr(1));
      if (root_.contains(pointer)) target = &root_.at(pointer);
    } catch (const nlohmann::json::exception&) {
      target = nullptr;  // not a pointer: reported as not found
    }
    if (target == nullptr) return error(ErrorCode::kInvalidArgument, place + ".$ref: there is no " + name);
    const int32_t rule = builder_.add_rule();
    refs_[name] = rule;
    NF_TRY(Expr body, compile(*target, name, depth + 1));
    builder_.define(rule, std::move(body));
    return rule_of(rule);
  }

  Result<Expr> compile_enum(const Json& schema, const std::string& place) {
    NF_RETURN_IF_ERROR(check_keywords(schema, place, {"enum", "type"}));
    const Json& values = schema["enum"];
    if (!values.is_array() || values.empty()) return invalid(place + ".enum", "an array that is not empty");
    std::vector<Expr> parts;
    for (const Json& value : values) parts.push_back(literal(io::dump_json(value)));
    return choice(std::move(parts));
  }

  Result<Expr> compile_members(const Json& schema, const std::string& key, const std::string& place,
                               int depth) {
    NF_RETURN_IF_ERROR(check_keywords(schema, place, {key}));
    const Json& members = schema[key];
    if (!members.is_array() || members.empty())
      return invalid(place + "." + key, "an array that is not empty");
    if (key == "allOf" && members.size() > 1) {
      return error(ErrorCode::kUnsupported, place + ".allOf: more than one member cannot be enforced");
    }
    std::vector<Expr> parts;
    for (size_t i = 0; i < members.size(); ++i) {
      NF_TRY(Expr part, compile(members[i], place + "." + key + "[" + std::to_string(i) + "]", depth + 1));
      parts.push_back(std::move(part));
    }
    return choice(std::move(parts));
  }

  // The count that `schema` gives for `key`, else `fallback`.
  static Result<int32_t> count(const Json& schema, const char* key, int32_t fallback,
                               const std::string& place) {
    const auto found = schema.find(key);
    if (found == schema.end()) return fallback;
    if (!found->is_number_integer() || found->get<int64_t>() < 0 || found->get<int64_t>() > kMaxRepeat) {
      return invalid(place + "." + key, "a whole number from 0 to " + std::to_string(kMaxRepeat));
    }
    return found->get<int32_t>();
  }

  Result<Expr> compile_string(const Json& schema, const std::string& place) {
    NF_RETURN_IF_ERROR(
        check_keywords(schema, place, {"type", "pattern", "format", "minLength", "maxLength"}));
    const bool has_length = schema.contains("minLength") || schema.contains("maxLength");
    const bool has_pattern = schema.contains("pattern");
    if (has_pattern && (has_length || schema.contains("format"))) {
      return error(ErrorCode::kUnsupported,
                   place + ".pattern: a pattern beside a length or a format cannot be enforced",
                   "put the length into the pattern");
    }
    std::string pattern;
    if (schema.contains("format")) {
      const Json& format = schema["format"];
      const auto* const known = std::find_if(kFormats.begin(), kFormats.end(),
                                             [&](const Format& one) { return format == one.name; });
      if (known == kFormats.end() || has_length) {
        return error(ErrorCode::kUnsupported,
                     place + ".format: " + io::dump_json(format) + " cannot be enforced here");
      }
      pattern = known->pattern;
    } else if (has_pattern) {
      if (!schema["pattern"].is_string()) return invalid(place + ".pattern", "a string");
      pattern = schema["pattern"].get<std::string>();
    }
    if (!pattern.empty()) {
      auto inside = parse_regex(pattern, RegexTarget::kJsonString);
      if (!inside) return error(inside.error().code, place + ": " + inside.error().message);
      return quoted(*std::move(inside));
    }
    if (!has_length) return rule_of(string_rule_);
    NF_TRY(const int32_t min, count(schema, "minLength", 0, place));
    NF_TRY(const int32_t max, count(schema, "maxLength", -1, place));
    if (max >= 0 && max < min) return invalid(place + ".maxLength", "at least minLength");
    return quoted(repeat(rule_of(character_rule()), min, max));
  }

  // As a rule, so that a long string's graph has one node a character.
  int32_t character_rule() {
    if (character_rule_ < 0) character_rule_ = define(character_);
    return character_rule_;
  }

  Result<Expr> compile_array(const Json& schema, const std::string& place, int depth) {
    NF_RETURN_IF_ERROR(check_keywords(schema, place, {"type", "items", "minItems", "maxItems"}));
    Expr item = schema.contains("items") ? nullptr : any_value();
    if (!item) {
      NF_TRY(item, compile(schema["items"], place + ".items", depth + 1));
    }
    NF_TRY(const int32_t min, count(schema, "minItems", 0, place));
    NF_TRY(const int32_t max, count(schema, "maxItems", -1, place));
    if (max >= 0 && max < min) return invalid(place + ".maxItems", "at least minItems");
    return list("[", rule_of(define(std::move(item))), "]", min, max);
  }

  Result<Expr> compile_object(const Json& schema, const std::string& place, int depth) {
    NF_RETURN_IF_ERROR(
        check_keywords(schema, place, {"type", "properties", "required", "additionalProperties"}));
    const Json none = Json::object();
    const Json& properties = schema.contains("properties") ? schema["properties"] : none;
    if (!properties.is_object()) return invalid(place + ".properties", "an object");
    std::vector<std::string> required;
    if (schema.contains("required")) {
      if (!schema["required"].is_array()) return invalid(place + ".required", "an array of strings");
      for (const Json& name : schema["required"]) {
        if (!name.is_string()) return invalid(place + ".required", "an array of strings");
        required.push_back(name.get<std::string>());
        if (!properties.contains(required.back())) {
          return error(ErrorCode::kUnsupported,
                       place + ".required: \"" + required.back() + "\" is not among properties");
        }
      }
      std::sort(required.begin(), required.end());
    }
    if (properties.empty()) return compile_map(schema, place, depth);
    // From the last property to the first: what may follow when something has been written, and when nothing
    // has.
    Expr after_some = sequence({});
    Expr after_none = sequence({});
    std::vector<std::pair<std::string, const Json*>> in_order;
    for (const auto& [name, property] : properties.items()) in_order.emplace_back(name, &property);
    for (size_t i = in_order.size(); i-- > 0;) {
      const auto& [name, property] = in_order[i];
      NF_TRY(Expr value, compile(*property, place + ".properties." + name, depth + 1));
      const Expr pair = rule_of(define(sequence({literal(io::dump_json(name)), colon(), std::move(value)})));
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
  Result<Expr> compile_map(const Json& schema, const std::string& place, int depth) {
    const auto additional = schema.find("additionalProperties");
    if (additional == schema.end() || *additional == true) return any_object();
    if (*additional == false) return sequence({literal("{"), space_, literal("}")});
    NF_TRY(Expr value, compile(*additional, place + ".additionalProperties", depth + 1));
    return list("{", rule_of(define(sequence({rule_of(string_rule_), colon(), std::move(value)}))), "}", 0,
                -1);
  }

  GrammarBuilder& builder_;
  const Json& root_;
  Expr space_;
  Expr integer_;
  Expr number_;
  Expr character_;
  int32_t string_rule_ = -1;
  int32_t character_rule_ = -1;
  int32_t any_rule_ = -1;
  int32_t any_object_rule_ = -1;
  std::map<std::string, int32_t> refs_;
  size_t num_schemas_ = 0;
};

}  // namespace

Result<Expr> add_json_schema(GrammarBuilder& builder, const Json& schema, const Json& root,
                             const std::string& place) {
  return SchemaCompiler(builder, root).compile(schema, place);
}

Result<Grammar> from_json_schema(const Json& schema) {
  GrammarBuilder builder;
  NF_TRY(Expr value, add_json_schema(builder, schema, schema, "schema"));
  const int32_t rule = builder.add_rule();
  builder.define(rule, std::move(value));
  return builder.build(rule);
}

Result<Grammar> from_json_object() {
  GrammarBuilder builder;
  const Json none = Json::object();
  const int32_t rule = builder.add_rule();
  builder.define(rule, SchemaCompiler(builder, none).any_object());
  return builder.build(rule);
}

}  // namespace nemoforge::grammar
