#include "text/jinja/str_format.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/operators.h"
#include "text/jinja/printf_format.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

// [[fill]align][sign][#][0][width][grouping][.precision][type]
struct Spec {
  std::string fill = " ";
  char align = 0;  // 0: by the value's type
  char sign = '-';
  bool alternate = false;
  int64_t width = 0;
  char grouping = 0;
  int64_t precision = -1;
  char type = 0;
};

bool is_align(char c) {
  return c == '<' || c == '>' || c == '=' || c == '^';
}

Result<Spec> parse_spec(std::string_view text) {
  Spec spec;
  size_t pos = 0;
  const auto peek = [&] { return pos < text.size() ? text[pos] : '\0'; };
  if (!text.empty()) {
    size_t after_fill = 0;
    (void)next_code_point(text, after_fill);
    if (after_fill < text.size() && is_align(text[after_fill])) {
      spec.fill = text.substr(0, after_fill);
      spec.align = text[after_fill];
      pos = after_fill + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      pos = 1;
    }
  }
  if (peek() == '+' || peek() == '-' || peek() == ' ') spec.sign = text[pos++];
  if (peek() == '#') {
    spec.alternate = true;
    ++pos;
  }
  if (peek() == '0') {
    ++pos;
    if (spec.align == 0) {
      spec.fill = "0";
      spec.align = '=';
    }
  }
  const auto number = [&] {
    int64_t value = 0;
    while (peek() >= '0' && peek() <= '9')
      value = std::min<int64_t>(value * 10 + (text[pos++] - '0'), INT32_MAX);
    return value;
  };
  spec.width = number();
  if (peek() == ',' || peek() == '_') spec.grouping = text[pos++];
  if (peek() == '.') {
    ++pos;
    if (peek() < '0' || peek() > '9') return type_error("Format specifier missing precision");
    spec.precision = number();
  }
  if (pos < text.size()) spec.type = text[pos++];
  if (pos != text.size()) return type_error("Invalid format specifier '" + std::string(text) + "'");
  return spec;
}

Result<std::string> pad(Runtime& runtime, const Spec& spec, const std::string& sign, const std::string& body,
                        char default_align) {
  const char align = spec.align == 0 ? default_align : spec.align;
  const int64_t length = static_cast<int64_t>(sign.size()) + code_point_length(body);
  const int64_t padding = spec.width - length;
  if (padding <= 0) return sign + body;
  NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(padding) * 4));
  const auto fill = [&](int64_t count) {
    std::string out;
    for (int64_t i = 0; i < count; ++i) out += spec.fill;
    return out;
  };
  switch (align) {
    case '<':
      return sign + body + fill(padding);
    case '^':
      return fill(padding / 2) + sign + body + fill(padding - padding / 2);
    case '=':
      return sign + fill(padding) + body;
    default:
      return fill(padding) + sign + body;
  }
}

// Puts a separator between groups of digits of the integer part.
std::string group_digits(const std::string& digits, char separator, int size) {
  const size_t end = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  std::string out;
  for (size_t i = 0; i < end; ++i) {
    if (i > 0 && (end - i) % static_cast<size_t>(size) == 0) out += separator;
    out += digits[i];
  }
  return out + digits.substr(end);
}

std::string sign_text(const Spec& spec, bool negative) {
  if (negative) return "-";
  return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

tl::unexpected<Error> unknown_code(char type, const Value& value) {
  return type_error("Unknown format code '" + std::string(1, type) + "' for object of type '" +
                    std::string(type_name(value)) + "'");
}

Result<std::string> format_float(Runtime& runtime, const Value& value, const Spec& spec) {
  const double magnitude = std::fabs(value.as_double());
  std::string body;
  switch (spec.type) {
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
    case 'n': {
      NF_TRY(body, format_c_float(magnitude, spec.type == 'n' ? 'g' : spec.type,
                                  spec.precision < 0 ? 6 : spec.precision, spec.alternate ? "#" : ""));
      break;
    }
    case '%': {
      NF_TRY(body, format_c_float(magnitude * 100, 'f', spec.precision < 0 ? 6 : spec.precision, ""));
      body += '%';
      break;
    }
    case 0:
      if (spec.precision < 0) {
        body = float_to_text(magnitude);
      } else {
        NF_TRY(body, format_c_float(magnitude, 'g', std::max<int64_t>(spec.precision, 1), ""));
        if (std::isfinite(magnitude) && body.find_first_of(".e") == std::string::npos) {
          // One digit after the point, unless that is more than the precision: then the exponent form.
          if (static_cast<int64_t>(body.size()) < spec.precision) {
            body += ".0";
          } else {
            NF_TRY(body, format_c_float(magnitude, 'e', std::max<int64_t>(spec.precision - 1, 0), ""));
          }
        }
      }
      break;
    default:
      return unknown_code(spec.type, value);
  }
  if (spec.grouping != 0 && std::isfinite(magnitude)) body = group_digits(body, spec.grouping, 3);
  return pad(runtime, spec, sign_text(spec, std::signbit(value.as_double())), body, '>');
}

Result<std::string> format_integer(Runtime& runtime, const Value& value, const Spec& spec) {
  const Int number = value.as_int();
  switch (spec.type) {
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
    case '%':
      return format_float(runtime, Value(value.as_double()), spec);
    default:
      break;
  }
  if (spec.precision >= 0) return type_error("Precision not allowed in integer format specifier");
  int base = 10;
  std::string prefix;
  switch (spec.type) {
    case 0:
    case 'd':
    case 'n':
      break;
    case 'b':
      base = 2;
      prefix = "0b";
      break;
    case 'o':
      base = 8;
      prefix = "0o";
      break;
    case 'x':
      base = 16;
      prefix = "0x";
      break;
    case 'X':
      base = 16;
      prefix = "0X";
      break;
    case 'c': {
      if (number < 0 || number > 0x10FFFF || (number >= 0xD800 && number <= 0xDFFF)) {
        return type_error("%c arg not in range(0x110000)");
      }
      std::string text;
      append_utf8(text, static_cast<char32_t>(number));
      return pad(runtime, spec, "", text, '<');
    }
    default:
      return unknown_code(spec.type, value);
  }
  if (spec.grouping == ',' && base != 10) return type_error("Cannot specify ',' with that format code.");
  std::string digits = integer_digits(number, base, spec.type == 'X');
  if (spec.grouping != 0) digits = group_digits(digits, spec.grouping, base == 10 ? 3 : 4);
  return pad(runtime, spec, sign_text(spec, number < 0) + (spec.alternate ? prefix : ""), digits, '>');
}

class BracesFormatter {
 public:
  BracesFormatter(Runtime& runtime, const Arguments& arguments) : runtime_(runtime), arguments_(arguments) {}

  // `level` 1 is the format itself, 2 a field's specification, 3 that of a field inside it.
  Result<std::string> run(std::string_view format, int level) {
    if (level > 3) return type_error("Max string recursion exceeded");
    std::string out;
    for (size_t pos = 0; pos < format.size();) {
      const char c = format[pos++];
      const bool doubled = pos < format.size() && format[pos] == c;
      if (c != '{' && c != '}') {
        out += c;
      } else if (doubled) {
        out += c;
        ++pos;
      } else if (c == '}') {
        return type_error("Single '}' encountered in format string");
      } else {
        const size_t begin = pos;
        int depth = 1;
        while (pos < format.size() && depth > 0) {
          depth += format[pos] == '{' ? 1 : format[pos] == '}' ? -1 : 0;
          ++pos;
        }
        if (depth > 0) return type_error("expected '}' before end of string");
        NF_TRY(const std::string text, field(format.substr(begin, pos - begin - 1), level));
        out += text;
        NF_RETURN_IF_ERROR(runtime_.check_size(static_cast<Int>(out.size())));
      }
    }
    return out;
  }

 private:
  Result<std::string> field(std::string_view text, int level) {
    // A ':' or '!' inside brackets belongs to the name.
    size_t end = 0;
    bool in_brackets = false;
    while (end < text.size() && (in_brackets || (text[end] != ':' && text[end] != '!'))) {
      in_brackets = text[end] == '[' || (in_brackets && text[end] != ']');
      ++end;
    }
    NF_TRY(Value value, resolve(text.substr(0, end)));
    std::string_view rest = text.substr(end);
    if (!rest.empty() && rest[0] == '!') {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':'))
        return type_error("expected ':' after conversion specifier");
      if (rest[1] != 's' && rest[1] != 'r' && rest[1] != 'a') {
        return type_error("Unknown conversion specifier " + std::string(1, rest[1]));
      }
      NF_TRY(std::string converted, rest[1] == 's'   ? to_text(runtime_, value)
                                    : rest[1] == 'r' ? to_repr(runtime_, value)
                                                     : to_ascii(runtime_, value));
      value = runtime_.string(std::move(converted));
      rest.remove_prefix(2);
    }
    if (!rest.empty()) rest.remove_prefix(1);
    NF_TRY(const std::string spec, run(rest, level + 1));
    return format_value(runtime_, value, spec);
  }

  Result<Value> resolve(std::string_view name) {
    const size_t end = std::min(name.find_first_of(".["), name.size());
    NF_TRY(Value value, first(name.substr(0, end)));
    for (size_t pos = end; pos < name.size();) {
      if (name[pos] == '.') {
        const size_t stop = std::min(name.find_first_of(".[", pos + 1), name.size());
        if (stop == pos + 1) return type_error("Empty attribute in format string");
        NF_TRY(value, get_attribute(runtime_, value, name.substr(pos + 1, stop - pos - 1)));
        pos = stop;
      } else {
        const size_t close = name.find(']', pos);
        if (name[pos] != '[' || close == std::string_view::npos)
          return type_error("Missing ']' in format string");
        const std::string_view key = name.substr(pos + 1, close - pos - 1);
        if (key.empty()) return type_error("Empty attribute in format string");
        const auto index = parse_index(key);
        NF_TRY(value, get_item(runtime_, value, index ? Value(*index) : runtime_.string(std::string(key))));
        pos = close + 1;
        if (pos < name.size() && name[pos] != '.' && name[pos] != '[') {
          return type_error("Only '.' or '[' may follow ']' in format field specifier");
        }
      }
    }
    return value;
  }

  Result<Value> first(std::string_view name) {
    std::optional<int64_t> index = parse_index(name);
    if (name.empty()) {
      if (manual_)
        return type_error("cannot switch from manual field specification to automatic field numbering");
      automatic_ = true;
      index = next_index_++;
    } else if (index) {
      if (automatic_)
        return type_error("cannot switch from automatic field numbering to manual field specification");
      manual_ = true;
    }
    if (index) {
      if (*index >= static_cast<int64_t>(arguments_.positional.size())) {
        return type_error("Replacement index " + std::to_string(*index) +
                          " out of range for positional args tuple");
      }
      return arguments_.positional[static_cast<size_t>(*index)];
    }
    for (const auto& [key, value] : arguments_.keyword) {
      if (key == name) return value;
    }
    return type_error("KeyError: " + quote(name));
  }

  static std::optional<int64_t> parse_index(std::string_view text) {
    if (text.empty() || text.size() > 9) return std::nullopt;
    int64_t index = 0;
    for (const char c : text) {
      if (c < '0' || c > '9') return std::nullopt;
      index = index * 10 + (c - '0');
    }
    return index;
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  int64_t next_index_ = 0;
  bool automatic_ = false;
  bool manual_ = false;
};

}  // namespace

Result<std::string> format_braces(Runtime& runtime, std::string_view format, const Arguments& arguments) {
  return BracesFormatter(runtime, arguments).run(format, 1);
}

Result<std::string> format_value(Runtime& runtime, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return to_text(runtime, value);
  if (!value.is_number() && !value.is_string()) {
    return type_error("unsupported format string passed to " + std::string(type_name(value)) + ".__format__");
  }
  NF_TRY(const Spec spec, parse_spec(spec_text));
  if (value.is_string()) {
    if (spec.type != 0 && spec.type != 's') return unknown_code(spec.type, value);
    if (spec.sign != '-' || spec.alternate || spec.grouping != 0 || (spec.align == '=' && spec.fill != "0")) {
      return type_error("that format option is not allowed in string format specifier");
    }
    std::string text = value.text();
    if (spec.precision >= 0) text.resize(byte_offset(text, spec.precision));
    Spec aligned = spec;
    if (aligned.align == '=') aligned.align = '<';
    return pad(runtime, aligned, "", text, '<');
  }
  if (value.is_integral()) return format_integer(runtime, value, spec);
  return format_float(runtime, value, spec);
}

}  // namespace nemoforge::text::jinja
