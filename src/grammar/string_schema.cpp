#include "grammar/string_schema.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "grammar/regex.h"
#include "grammar/tool_text.h"

namespace nemoforge::grammar {
namespace {

using io::Json;

constexpr const char* kDate =
    "[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"
    "02-(0[1-9]|1[0-9]|2[0-8]))";
constexpr const char* kTime =
    R"(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))";
constexpr const char* kClock =
    "([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S)";
constexpr const char* kLabel = "[A-Za-z0-9]{1,30}(-[A-Za-z0-9]{1,30})?";
constexpr const char* kByte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

// What the strings of a format match, and of those possibly less; empty where the format is not known.
std::string pattern_of_format(std::string_view name) {
  const auto all = [](const std::string& pattern) { return "^(" + pattern + ")$"; };
  const std::string date = kDate;
  const std::string label = kLabel;
  const std::string byte = kByte;
  if (name == "date") return all(date);
  if (name == "time") return all(kTime);
  if (name == "date-time") return all(date + "T" + kTime);
  if (name == "duration")
    return all(std::string("P([0-9]{1,4}D(T") + kClock + ")?|T" + kClock + "|[0-9]{1,4}W)");
  if (name == "uuid") return all("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}");
  if (name == "hostname") return all(label + R"((\.)" + label + "){0,3}");
  if (name == "ipv4") return all(byte + R"((\.)" + byte + "){3}");
  if (name == "ipv6")
    return all("([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,6}:[0-9a-f]{1,4}|::([0-9a-f]{1,4})?");
  if (name == "email")
    return all("[A-Za-z0-9]{1,20}([._+-][A-Za-z0-9]{1,20}){0,2}@(" + label + R"(\.){1,3}[A-Za-z]{2,10})");
  if (name == "uri")
    return all(
        R"([a-z][a-z0-9+.-]{0,15}://()" + label + R"((\.)" + label + "){0,4}(:[1-9][0-9]{0,3})?)?" +
        "(/([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-F]{2}){0,500})?(#[A-Za-z0-9._~!$&'()*+,;=:@/?-]{0,100})?");
  return {};
}

// How many code points the strings of an expression have. (Of one whose sets are single code points.)
struct Lengths {
  int64_t min = 0;
  int64_t max = 0;  // kEndless: no end
};
constexpr int64_t kEndless = int64_t{1} << 40;

Lengths lengths_of(const Expression& expression) {
  Lengths out;
  switch (expression.kind) {
    case Expression::Kind::kSet:
      return {1, 1};
    case Expression::Kind::kSequence:
      for (const Expr& part : expression.parts) {
        const Lengths one = lengths_of(*part);
        out = {std::min(out.min + one.min, kEndless), std::min(out.max + one.max, kEndless)};
      }
      return out;
    case Expression::Kind::kChoice:
      for (size_t i = 0; i < expression.parts.size(); ++i) {
        const Lengths one = lengths_of(*expression.parts[i]);
        out = i == 0 ? one : Lengths{std::min(out.min, one.min), std::max(out.max, one.max)};
      }
      return out;
    case Expression::Kind::kRepeat: {
      const Lengths one = lengths_of(*expression.parts[0]);
      out.min = std::min(one.min * expression.min, kEndless);
      out.max =
          expression.max < 0 ? (one.max > 0 ? kEndless : 0) : std::min(one.max * expression.max, kEndless);
      return out;
    }
    case Expression::Kind::kLiteral:
    case Expression::Kind::kRule:
      break;  // not in a regular expression
  }
  return {0, kEndless};
}

// What stands alone in sequences of one part.
const Expression& unwrapped(const Expr& expression) {
  const Expression* at = expression.get();
  while (at->kind == Expression::Kind::kSequence && at->parts.size() == 1) at = at->parts[0].get();
  return *at;
}

RegexTarget target_of(StringForm form) {
  switch (form) {
    case StringForm::kJson:
      return RegexTarget::kJsonString;
    case StringForm::kToolJson:
      return RegexTarget::kToolJsonString;
    case StringForm::kToolText:
      break;
  }
  return RegexTarget::kToolText;
}

Expr in_form(Expr inside, StringForm form) {
  if (form == StringForm::kToolText) return inside;
  return sequence({literal("\""), std::move(inside), literal("\"")});
}

// Strings of `pattern` that have between `min` and `max` code points: where all have, or where the pattern
// only repeats one class.
Result<Expr> pattern_with_lengths(const std::string& pattern, int32_t min, int32_t max, StringForm form,
                                  const std::string& place) {
  const auto located = [&](const Error& error) {
    return nemoforge::error(error.code, place + ": " + error.message);
  };
  auto inside = parse_regex(pattern, target_of(form));
  if (!inside) return located(inside.error());
  const auto text = parse_regex(pattern, RegexTarget::kSearch);
  if (!text) return located(text.error());
  const Lengths lengths = lengths_of(**text);
  if (lengths.min >= min && (max < 0 || lengths.max <= max)) return in_form(*std::move(inside), form);
  const Expression& whole = unwrapped(*text);
  if (whole.kind == Expression::Kind::kRepeat && whole.parts[0]->kind == Expression::Kind::kSet) {
    const Expression& repeated = unwrapped(*inside);
    const int32_t least = std::max(min, whole.min);
    const int32_t most = max < 0 ? whole.max : whole.max < 0 ? max : std::min(max, whole.max);
    if (most < 0 || least <= most) return in_form(repeat(repeated.parts[0], least, most), form);
  }
  return error(ErrorCode::kUnsupported,
               place + ": a pattern or format together with this length cannot be enforced",
               "put the length into the pattern");
}

// \uXXXX of anything but surrogates, which would need a partner.
Expr unicode_escape() {
  const Expr digit = one_of({{'0', '9'}, {'a', 'f'}, {'A', 'F'}});
  const Expr not_d = one_of({{'0', '9'}, {'a', 'c'}, {'e', 'f'}, {'A', 'C'}, {'E', 'F'}});
  return sequence(
      {literal("\\u"),
       choice({sequence({not_d, digit}), sequence({one_of({{'d', 'd'}, {'D', 'D'}}), one_of({{'0', '7'}})})}),
       digit, digit});
}

// A character of a JSON string that is none of `excluded`, unless escaped.
Expr json_character_but(CodePointSet excluded) {
  return choice({json_string_character(complement(std::move(excluded))), literal("\\/"), unicode_escape()});
}

// Any inside of a string. In a tool's argument no / follows a < there.
Expr any_inside(StringForm form) {
  if (form == StringForm::kJson) return repeat(json_character_but({}), 0, -1);
  const Expr less_than = literal("<");
  const Expr after = json_character_but({{'/', '/'}, {'<', '<'}});
  const Expr other = json_character_but({{'<', '<'}});
  return sequence({repeat(choice({other, sequence({repeat(less_than, 1, -1), after})}), 0, -1),
                   repeat(less_than, 0, -1)});
}

}  // namespace

Expr Strings::any(StringForm form) {
  int32_t& rule = any_[static_cast<size_t>(form)];
  if (rule < 0) {
    Expr all =
        form == StringForm::kToolText ? add_tool_text(builder_, true) : in_form(any_inside(form), form);
    rule = builder_.add_rule();
    builder_.define(rule, std::move(all));
  }
  return rule_of(rule);
}

Result<Expr> Strings::only(const std::string& text, StringForm form, const std::string& place) const {
  if (form == StringForm::kToolText) {
    if (is_tool_text(text)) return literal(text);
    return error(ErrorCode::kUnsupported, place + ": a tag of a tool call cannot be within an argument");
  }
  return literal(json_text(Json(text), form));
}

Expr Strings::of_length(int32_t min, int32_t max, StringForm form) {
  if (form == StringForm::kToolText && min == 1 && max < 0) return add_tool_text(builder_, false);
  // As a rule, so that a long string's graph has one node a character.
  int32_t& rule = character_[static_cast<size_t>(form)];
  if (rule < 0) {
    rule = builder_.add_rule();
    builder_.define(rule, form == StringForm::kJson       ? json_character_but({})
                          : form == StringForm::kToolJson ? json_character_but({{'<', '<'}})
                                                          : one_of(complement({{'<', '<'}})));
  }
  return in_form(repeat(rule_of(rule), min, max), form);
}

Result<Expr> Strings::of(const Json& schema, StringForm form, const std::string& place) {
  NF_TRY(const int32_t min, count_in_schema(schema, "minLength", 0, place));
  NF_TRY(const int32_t max, count_in_schema(schema, "maxLength", -1, place));
  if (max >= 0 && max < min)
    return error(ErrorCode::kInvalidArgument, place + ".maxLength: expected at least minLength");
  const auto format = schema.find("format");
  std::string pattern = format != schema.end() && format->is_string()
                            ? pattern_of_format(format->get_ref<const std::string&>())
                            : std::string();
  if (const auto given = schema.find("pattern"); given != schema.end()) {
    if (!given->is_string()) return error(ErrorCode::kInvalidArgument, place + ".pattern: expected a string");
    if (!pattern.empty())
      return error(ErrorCode::kUnsupported, place + ".pattern: a pattern beside a format cannot be enforced");
    pattern = given->get<std::string>();
  }
  if (!pattern.empty()) return pattern_with_lengths(pattern, min, max, form, place);
  return min == 0 && max < 0 ? any(form) : of_length(min, max, form);
}

std::string json_text(const Json& value, StringForm form) {
  std::string text = io::dump_json(value);
  if (form == StringForm::kJson) return text;
  // In JSON < stands in strings only.
  for (size_t at = text.find("</"); at != std::string::npos; at = text.find("</", at))
    text.replace(at, 1, "\\u003c");
  return text;
}

Result<int32_t> count_in_schema(const Json& schema, const char* key, int32_t fallback,
                                const std::string& place) {
  const auto found = schema.find(key);
  if (found == schema.end()) return fallback;
  if (!found->is_number_integer() || *found < 0) {
    return error(ErrorCode::kInvalidArgument, place + "." + key + ": expected a whole number from 0 on");
  }
  if (*found <= kMaxRepeat) return found->get<int32_t>();
  if (std::string_view(key).starts_with("max")) return kMaxRepeat;
  return error(ErrorCode::kUnsupported,
               place + "." + key + ": more than " + std::to_string(kMaxRepeat) + " cannot be enforced");
}

}  // namespace nemoforge::grammar
