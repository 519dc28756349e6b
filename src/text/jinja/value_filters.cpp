// The filters on numbers and single values (callables.h).
#include <cmath>
#include <cstdlib>

#include "text/jinja/callables.h"
#include "text/jinja/operators.h"
#include "text/jinja/printf_format.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

Result<Value> absolute(Runtime&, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("abs", arguments, {}));
  if (value.is_integral()) {
    if (value.as_int() >= 0) return Value(value.as_int());
    return negate(value);
  }
  if (value.is_number()) return Value(std::fabs(value.as_double()));
  return type_error("bad operand type for abs(): '" + std::string(type_name(value)) + "'");
}

// int(text, base); nothing where Python raises ValueError. An integer of more than 128 bits is an error.
Result<std::optional<Int>> parse_int(std::string_view text, int64_t base) {
  text = strip(text, Side::kBoth);
  bool negative = false;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const char mark = text.size() > 1 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : '\0';
  const int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  bool had_prefix = false;
  if (marked != 0 && (base == 0 || base == marked)) {
    base = marked;
    text.remove_prefix(2);
    had_prefix = true;
  } else if (base == 0) {
    // Without a prefix only zeros may begin with a zero.
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != std::string_view::npos) {
      return std::optional<Int>();
    }
    base = 10;
  }
  Int value = 0;
  bool previous_is_digit = had_prefix;  // an underscore may follow a prefix
  bool any = false;
  for (const char c : text) {
    if (c == '_') {
      if (!previous_is_digit) return std::optional<Int>();
      previous_is_digit = false;
      continue;
    }
    const char lower = static_cast<char>(c | 0x20);
    int64_t digit = 99;
    if (c >= '0' && c <= '9') digit = c - '0';
    if (lower >= 'a' && lower <= 'z') digit = lower - 'a' + 10;
    if (digit >= base) return std::optional<Int>();
    if (__builtin_mul_overflow(value, Int{base}, &value) ||
        __builtin_add_overflow(value, Int{digit}, &value)) {
      return error(ErrorCode::kResourceExhausted, "an integer would need more than 128 bits");
    }
    previous_is_digit = any = true;
  }
  if (!any || !previous_is_digit) return std::optional<Int>();
  return std::optional<Int>(negative ? -value : value);
}

// float(text); nothing where Python raises ValueError.
std::optional<double> parse_float(std::string_view text) {
  text = strip(text, Side::kBoth);
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '_') {
      const auto is_digit_at = [&](size_t at) {
        return at < text.size() && text[at] >= '0' && text[at] <= '9';
      };
      if (i == 0 || !is_digit_at(i - 1) || !is_digit_at(i + 1)) return std::nullopt;
      continue;
    }
    plain.push_back(c);
  }
  // strtod takes more than Python: hexadecimal and nan(...).
  std::string_view unsigned_part = plain;
  if (!unsigned_part.empty() && (unsigned_part[0] == '+' || unsigned_part[0] == '-'))
    unsigned_part.remove_prefix(1);
  const std::string lowered = to_lower(unsigned_part);
  if (lowered == "inf" || lowered == "infinity") return plain[0] == '-' ? -INFINITY : INFINITY;
  if (lowered == "nan") return NAN;
  if (unsigned_part.find_first_not_of("0123456789.eE+-") != std::string_view::npos) return std::nullopt;
  if (unsigned_part.find_first_of("0123456789") == std::string_view::npos) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(plain.c_str(), &end);
  if (end != plain.c_str() + plain.size()) return std::nullopt;
  return value;
}

// int(value) of a float; nothing for nan.
Result<std::optional<Int>> truncate_to_int(double value) {
  if (std::isnan(value)) return std::optional<Int>();
  if (!(std::fabs(value) < 1.7e38)) {
    return error(ErrorCode::kResourceExhausted,
                 "cannot convert float infinity or a huge float to an integer");
  }
  return std::optional<Int>(static_cast<Int>(value));
}

Result<Value> to_int(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("int", arguments, {"default", "base"}));
  NF_TRY(const int64_t base, args.get_int(1, "base", 10));
  const Value when_invalid = args.get(0, Value(0));
  if (value.is_undefined()) return undefined_error(value);
  if (value.is_integral()) return Value(value.as_int());
  if (value.is_number()) {
    NF_TRY(const auto truncated, truncate_to_int(value.as_double()));
    return truncated ? Value(*truncated) : when_invalid;
  }
  if (!value.is_string()) return when_invalid;
  runtime.work(value.text().size());
  if (base == 0 || (base >= 2 && base <= 36)) {
    NF_TRY(const auto parsed, parse_int(value.text(), base));
    if (parsed) return Value(*parsed);
  }
  // "42.23" is 42
  const auto number = parse_float(value.text());
  if (!number || !std::isfinite(*number)) return when_invalid;
  NF_TRY(const auto truncated, truncate_to_int(*number));
  return truncated ? Value(*truncated) : when_invalid;
}

Result<Value> to_float(Runtime&, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("float", arguments, {"default"}));
  if (value.is_undefined()) return undefined_error(value);
  if (value.is_number()) return Value(value.as_double());
  if (value.is_string()) {
    if (const auto number = parse_float(value.text())) return Value(*number);
  }
  return args.get(0, Value(0.0));
}

// Rounds the decimal digits of a whole number, half to even; `exact` is false where something follows them.
Result<Value> round_digits(Int value, int64_t num_dropped) {
  if (num_dropped <= 0) return Value(value);
  if (num_dropped > 38) return Value(0);
  Int unit = 1;
  for (int64_t i = 0; i < num_dropped; ++i) unit *= 10;
  Int quotient = value / unit;
  const Int rest = value % unit;
  const Int magnitude = rest < 0 ? -rest : rest;
  const Int other = unit - magnitude;
  if (magnitude > other || (magnitude == other && quotient % 2 != 0)) quotient += value < 0 ? -1 : 1;
  Int rounded = 0;
  if (__builtin_mul_overflow(quotient, unit, &rounded)) {
    return error(ErrorCode::kResourceExhausted, "an integer would need more than 128 bits");
  }
  return Value(rounded);
}

// round(float, precision): correctly rounded from the exact value, half to even.
Result<Value> round_float(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 323) return Value(value);
  if (precision >= 0) {
    NF_TRY(const std::string text, format_c_float(value, 'f', precision, ""));
    return Value(std::strtod(text.c_str(), nullptr));
  }
  if (precision < -308) return Value(std::copysign(0.0, value));
  // The exponent form with as many digits as are kept is rounded the same way.
  const int exponent = value == 0 ? 0 : static_cast<int>(std::floor(std::log10(std::fabs(value))));
  const int64_t kept = exponent + precision;  // digits after the first
  if (kept < -1) return Value(std::copysign(0.0, value));
  if (kept == -1) {
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return Value(std::fabs(value) > unit / 2 ? std::copysign(unit, value) : std::copysign(0.0, value));
  }
  NF_TRY(const std::string text, format_c_float(value, 'e', kept, ""));
  return Value(std::strtod(text.c_str(), nullptr));
}

Result<Value> round_filter(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("round", arguments, {"precision", "method"}));
  NF_TRY(const auto method_text, args.get_text(1, "method"));
  const std::string method = method_text.value_or("common");
  if (method != "common" && method != "ceil" && method != "floor") {
    return type_error("method must be common, ceil or floor");
  }
  if (value.is_undefined()) return undefined_error(value);
  if (!value.is_number()) {
    return type_error("type " + std::string(type_name(value)) + " doesn't define __round__ method");
  }
  if (method == "common") {
    // round(x, None) gives an int.
    if (args.has(0) && args.get(0).is_none() && !value.is_integral()) {
      NF_TRY(const Value whole, round_float(value.as_double(), 0));
      NF_TRY(const auto truncated, truncate_to_int(whole.as_double()));
      if (!truncated) return type_error("cannot convert float NaN to integer");
      return Value(*truncated);
    }
    NF_TRY(const int64_t precision, args.get_int(0, "precision", 0));
    if (value.is_integral()) return round_digits(value.as_int(), -precision);
    return round_float(value.as_double(), precision);
  }
  const Value precision = args.get(0, Value(0));
  NF_TRY(const Value scale, apply_binary(runtime, BinaryOperator::kPow, Value(10), precision));
  NF_TRY(const Value scaled, apply_binary(runtime, BinaryOperator::kMul, value, scale));
  Value whole = scaled;
  if (!scaled.is_integral()) {
    const double exact = scaled.as_double();
    NF_TRY(const auto truncated, truncate_to_int(method == "ceil" ? std::ceil(exact) : std::floor(exact)));
    if (!truncated) return type_error("cannot convert float NaN to integer");
    whole = Value(*truncated);
  }
  return apply_binary(runtime, BinaryOperator::kDiv, whole, scale);
}

Result<Value> file_size(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("filesizeformat", arguments, {"binary"}));
  std::optional<double> bytes;
  if (value.is_number()) bytes = value.as_double();
  if (value.is_string()) bytes = parse_float(value.text());
  if (value.is_undefined()) return undefined_error(value);
  if (!bytes) return type_error("could not convert to float: " + std::string(type_name(value)));
  const bool binary = is_true(args.get(0));
  const double base = binary ? 1024 : 1000;
  if (*bytes == 1) return runtime.string("1 Byte");
  if (*bytes < base) {
    NF_TRY(const auto whole, truncate_to_int(*bytes));
    return runtime.string(int_to_text(whole.value_or(0)) + " Bytes");
  }
  constexpr std::string_view kDecimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
  constexpr std::string_view kBinary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
  double unit = base;
  size_t prefix = 0;
  for (; prefix < 8; ++prefix) {
    unit *= base;
    if (*bytes < unit || prefix == 7) break;
  }
  NF_TRY(const std::string number, format_c_float(base * *bytes / unit, 'f', 1, ""));
  return runtime.string(number + " " + std::string(binary ? kBinary[prefix] : kDecimal[prefix]));
}

Result<Value> default_filter(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("default", arguments, {"default_value", "boolean"}));
  if (!value.is_undefined() && (!is_true(args.get(1)) || is_true(value))) return value;
  return args.has(0) ? args.get(0) : runtime.string("");
}

// Like obj.name, but never obj["name"].
Result<Value> attribute(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("attr", arguments, {"name"}, 1));
  NF_TRY(const auto name, args.get_text(0, "attribute name"));
  if (!name) return type_error("attribute name must be string, not 'NoneType'");
  if (value.is_undefined()) return undefined_error(value);
  if (value.is(Kind::kDict) && find_method(value, *name) == nullptr &&
      !is_forbidden_attribute(value, *name)) {
    return runtime.undefined("'dict object' has no attribute " + quote(*name));
  }
  return get_attribute(runtime, value, *name);
}

Result<Value> to_json_filter(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = is_true(args.get(0));
  style.sort_keys = is_true(args.get(3));
  const Value& indent = args.get(1);
  if (indent.is_string()) {
    style.indent = indent.text();
  } else if (!indent.is_none()) {
    NF_TRY(const int64_t spaces, to_index(indent, "indent"));
    NF_RETURN_IF_ERROR(runtime.check_size(spaces));
    style.indent = std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' ');
  }
  if (style.indent) style.item_separator = ",";
  const Value& separators = args.get(2);
  if (!separators.is_none()) {
    NF_TRY(const auto both, iterate(runtime, separators));
    if (both.size() != 2 || !both[0].is_string() || !both[1].is_string()) {
      return type_error("separators must be a pair of strings");
    }
    style.item_separator = both[0].text();
    style.key_separator = both[1].text();
  }
  NF_TRY(std::string json, to_json(runtime, value, style));
  return runtime.string(std::move(json));
}

// Sorted by name.
constexpr Filter kFilters[] = {
    {"abs", absolute},
    {"attr", attribute},
    {"d", default_filter},
    {"default", default_filter},
    {"filesizeformat", file_size},
    {"float", to_float},
    {"int", to_int},
    {"round", round_filter},
    {"tojson", to_json_filter},
};

}  // namespace

std::span<const Filter> value_filters() {
  return kFilters;
}

}  // namespace nemoforge::text::jinja
