#include "text/jinja/printf_format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

constexpr int64_t kMaxPrecision = 1000;

struct Directive {
  std::string key;
  bool has_key = false;
  std::string flags;
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;

  [[nodiscard]] bool has_flag(char flag) const { return flags.find(flag) != std::string::npos; }
};

class PrintfFormatter {
 public:
  PrintfFormatter(Runtime& runtime, std::string_view format, const Value& arguments)
      : runtime_(runtime), format_(format), arguments_(arguments) {}

  Result<std::string> run() {
    std::string out;
    while (pos_ < format_.size()) {
      const char c = format_[pos_++];
      if (c != '%') {
        out += c;
        continue;
      }
      if (pos_ < format_.size() && format_[pos_] == '%') {
        out += '%';
        ++pos_;
        continue;
      }
      NF_TRY(const Directive directive, parse());
      NF_TRY(const Value value, directive.has_key ? lookup(directive.key) : next_value());
      NF_TRY(const std::string text, convert(directive, value));
      out += text;
      NF_RETURN_IF_ERROR(runtime_.check_size(static_cast<Int>(out.size())));
    }
    const bool is_mapping = arguments_.is(Kind::kDict) || arguments_.is(Kind::kList) ||
                            arguments_.is_undefined() || arguments_.is(Kind::kRange);
    const size_t available = arguments_.is(Kind::kTuple) ? arguments_.items().size() : 1;
    if (!is_mapping && used_ < available)
      return type_error("not all arguments converted during string formatting");
    return out;
  }

 private:
  Result<Value> next_value() {
    if (arguments_.is(Kind::kTuple)) {
      if (used_ >= arguments_.items().size()) return type_error("not enough arguments for format string");
      return arguments_.items()[used_++];
    }
    if (used_++ > 0) return type_error("not enough arguments for format string");
    return arguments_;
  }

  Result<Value> lookup(const std::string& key) {
    if (!arguments_.is(Kind::kDict)) return type_error("format requires a mapping");
    const Value* found = arguments_.dict().find(std::string_view(key));
    if (found == nullptr) return type_error("KeyError: " + quote(key));
    used_ = 1;  // a directive without key finds no argument after this
    return *found;
  }

  Result<int64_t> parse_count() {
    if (pos_ < format_.size() && format_[pos_] == '*') {
      ++pos_;
      NF_TRY(const Value value, next_value());
      return to_index(value, "* wants int");
    }
    int64_t count = 0;
    while (pos_ < format_.size() && format_[pos_] >= '0' && format_[pos_] <= '9') {
      count = std::min<int64_t>(count * 10 + (format_[pos_++] - '0'), INT32_MAX);
    }
    return count;
  }

  Result<Directive> parse() {
    Directive directive;
    if (pos_ < format_.size() && format_[pos_] == '(') {
      size_t depth = 1;
      const size_t begin = ++pos_;
      while (pos_ < format_.size() && depth > 0) {
        depth += format_[pos_] == '(' ? 1 : 0;
        depth -= format_[pos_] == ')' ? 1 : 0;
        ++pos_;
      }
      if (depth > 0) return type_error("incomplete format key");
      directive.key = format_.substr(begin, pos_ - begin - 1);
      directive.has_key = true;
    }
    while (pos_ < format_.size() && std::string_view("#0- +").find(format_[pos_]) != std::string_view::npos) {
      if (!directive.has_flag(format_[pos_])) directive.flags += format_[pos_];
      ++pos_;
    }
    NF_TRY(directive.width, parse_count());
    if (directive.width < 0) {
      directive.width = -directive.width;
      directive.flags += '-';
    }
    if (pos_ < format_.size() && format_[pos_] == '.') {
      ++pos_;
      NF_TRY(directive.precision, parse_count());
      directive.precision = std::max<int64_t>(directive.precision, 0);
    }
    while (pos_ < format_.size() && std::string_view("hlL").find(format_[pos_]) != std::string_view::npos)
      ++pos_;
    if (pos_ >= format_.size()) return type_error("incomplete format");
    directive.type = format_[pos_++];
    return directive;
  }

  Result<std::string> convert(const Directive& directive, const Value& value) {
    switch (directive.type) {
      case 's':
      case 'r':
      case 'a': {
        NF_TRY(std::string text, directive.type == 's'   ? to_text(runtime_, value)
                                 : directive.type == 'r' ? to_repr(runtime_, value)
                                                         : to_ascii(runtime_, value));
        if (directive.precision >= 0) text.resize(byte_offset(text, directive.precision));
        return pad(directive, "", text, false);
      }
      case 'c':
        return convert_character(directive, value);
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X':
        return convert_integer(directive, value);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        if (value.is_undefined()) return undefined_error(value);
        if (!value.is_number())
          return type_error("must be real number, not " + std::string(type_name(value)));
        NF_TRY(std::string text, format_c_float(std::fabs(value.as_double()), directive.type,
                                                directive.precision < 0 ? 6 : directive.precision,
                                                directive.has_flag('#') ? "#" : ""));
        return pad(directive, sign_of(directive, std::signbit(value.as_double())), text, true);
      }
      default:
        return type_error("unsupported format character '" + std::string(1, directive.type) + "'");
    }
  }

  Result<std::string> convert_character(const Directive& directive, const Value& value) {
    if (value.is_string()) {
      if (code_point_length(value.text()) != 1) return type_error("%c requires int or char");
      return pad(directive, "", value.text(), false);
    }
    if (!value.is_integral()) return type_error("%c requires int or char");
    const Int point = value.as_int();
    if (point < 0 || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) {
      return type_error("%c arg not in range(0x110000)");
    }
    std::string text;
    append_utf8(text, static_cast<char32_t>(point));
    return pad(directive, "", text, false);
  }

  Result<std::string> convert_integer(const Directive& directive, const Value& value) {
    const bool decimal = directive.type == 'd' || directive.type == 'i' || directive.type == 'u';
    if (value.is_undefined()) return undefined_error(value);
    if (!value.is_number() || (!decimal && !value.is_integral())) {
      return type_error("%" + std::string(1, directive.type) +
                        " format: " + (decimal ? "a real number" : "an integer") + " is required, not " +
                        std::string(type_name(value)));
    }
    Int number = 0;
    if (value.is_integral()) {
      number = value.as_int();
    } else {
      const double truncated = std::trunc(value.as_double());
      if (!(std::fabs(truncated) < 1.7e38)) return type_error("cannot convert float to a 128-bit integer");
      number = static_cast<Int>(truncated);
    }
    const int base = decimal ? 10 : directive.type == 'o' ? 8 : 16;
    std::string digits = integer_digits(number, base, directive.type == 'X');
    if (directive.precision > static_cast<int64_t>(digits.size())) {
      if (directive.precision > kMaxPrecision) return type_error("precision too big");
      digits.insert(0, static_cast<size_t>(directive.precision) - digits.size(), '0');
    }
    std::string prefix = sign_of(directive, number < 0);
    if (directive.has_flag('#') && !decimal) prefix += std::string("0") + directive.type;
    return pad(directive, prefix, digits, true);
  }

  static std::string sign_of(const Directive& directive, bool negative) {
    if (negative) return "-";
    return directive.has_flag('+') ? "+" : directive.has_flag(' ') ? " " : "";
  }

  Result<std::string> pad(const Directive& directive, const std::string& prefix, const std::string& body,
                          bool numeric) {
    const int64_t length = static_cast<int64_t>(prefix.size()) + code_point_length(body);
    if (directive.width <= length) return prefix + body;
    NF_RETURN_IF_ERROR(runtime_.check_size(directive.width));
    const auto padding = static_cast<size_t>(directive.width - length);
    if (directive.has_flag('-')) return prefix + body + std::string(padding, ' ');
    if (numeric && directive.has_flag('0')) return prefix + std::string(padding, '0') + body;
    return std::string(padding, ' ') + prefix + body;
  }

  Runtime& runtime_;
  std::string_view format_;
  const Value& arguments_;
  size_t pos_ = 0;
  size_t used_ = 0;
};

}  // namespace

Result<Value> format_printf(Runtime& runtime, const Value& format, const Value& arguments) {
  NF_TRY(std::string out, PrintfFormatter(runtime, format.text(), arguments).run());
  return runtime.string(std::move(out));
}

Result<std::string> format_c_float(double value, char type, int64_t precision, std::string_view flags) {
  if (precision > kMaxPrecision) return type_error("precision too big");
  const std::string spec = "%" + std::string(flags) + ".*" + type;
  std::string out(static_cast<size_t>(precision) + 400, '\0');
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const int size = std::snprintf(out.data(), out.size(), spec.c_str(), static_cast<int>(precision), value);
#pragma GCC diagnostic pop
  out.resize(static_cast<size_t>(size));
  return out;
}

std::string integer_digits(Int value, int base, bool upper) {
  const char* alphabet = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  if (value == 0) return "0";
  std::string out;
  while (value != 0) {
    const int digit = static_cast<int>(value % base);
    out.push_back(alphabet[digit < 0 ? -digit : digit]);
    value /= base;
  }
  std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace nemoforge::text::jinja
