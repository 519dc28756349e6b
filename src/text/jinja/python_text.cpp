#include "text/jinja/python_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "text/jinja/ast.h"
#include "text/jinja/callables.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

void append_hex(std::string& out, char32_t value, int digits) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) out.push_back(kDigits[(value >> shift) & 0xF]);
}

void append_escape(std::string& out, char32_t c) {
  out += c < 0x100 ? "\\x" : c < 0x10000 ? "\\u" : "\\U";
  append_hex(out, c, c < 0x100 ? 2 : c < 0x10000 ? 4 : 8);
}

void append_quoted(std::string& out, std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char mark = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out.push_back(mark);
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t c = next_code_point(text, pos);
    if (c == static_cast<unsigned char>(mark) || c == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      out += text.substr(begin, pos - begin);
    } else {
      append_escape(out, c);
    }
  }
  out.push_back(mark);
}

// Appends the repr of nested values into one string, watching its size.
class ReprWriter {
 public:
  ReprWriter(const Runtime& runtime, std::string& out) : runtime_(runtime), out_(out) {}

  Status write(const Value& value, int level = 0) {
    if (level > runtime_.limits().max_value_depth) {
      return error(ErrorCode::kResourceExhausted, "a value that holds itself has no text");
    }
    if (static_cast<int64_t>(out_.size()) > runtime_.limits().max_output_bytes) {
      return runtime_.check_size(static_cast<Int>(out_.size()));
    }
    switch (value.kind()) {
      case Kind::kString:
        if (value.as<StringObject>().markup) out_ += "Markup(";
        append_quoted(out_, value.text());
        if (value.as<StringObject>().markup) out_ += ')';
        return {};
      case Kind::kList:
        return write_items("[", value.items(), "]", level);
      case Kind::kTuple:
        return write_items("(", value.items(), value.items().size() == 1 ? ",)" : ")", level);
      case Kind::kDict:
        return write_dict(value.dict(), level);
      case Kind::kDictView:
        return write_view(value.as<DictViewObject>(), level);
      case Kind::kNamespace:
        return write_namespace(value.as<NamespaceObject>(), level);
      default:
        return write_plain(value);
    }
  }

 private:
  Status write_items(std::string_view open, const std::vector<Value>& items, std::string_view close,
                     int level) {
    out_ += open;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += ", ";
      NF_RETURN_IF_ERROR(write(items[i], level + 1));
    }
    out_ += close;
    return {};
  }

  Status write_dict(const DictObject& dict, int level) {
    out_ += '{';
    for (size_t i = 0; i < dict.entries.size(); ++i) {
      if (i > 0) out_ += ", ";
      NF_RETURN_IF_ERROR(write(dict.entries[i].first, level + 1));
      out_ += ": ";
      NF_RETURN_IF_ERROR(write(dict.entries[i].second, level + 1));
    }
    out_ += '}';
    return {};
  }

  Status write_view(const DictViewObject& view, int level) {
    out_ += view.view == DictViewKind::kKeys     ? "dict_keys(["
            : view.view == DictViewKind::kValues ? "dict_values(["
                                                 : "dict_items([";
    const auto& entries = view.dict.dict().entries;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += ", ";
      if (view.view == DictViewKind::kItems) out_ += '(';
      if (view.view != DictViewKind::kValues) NF_RETURN_IF_ERROR(write(entries[i].first, level + 1));
      if (view.view == DictViewKind::kItems) out_ += ", ";
      if (view.view != DictViewKind::kKeys) NF_RETURN_IF_ERROR(write(entries[i].second, level + 1));
      if (view.view == DictViewKind::kItems) out_ += ')';
    }
    out_ += "])";
    return {};
  }

  Status write_namespace(const NamespaceObject& name_space, int level) {
    out_ += "<Namespace {";
    for (size_t i = 0; i < name_space.attributes.size(); ++i) {
      if (i > 0) out_ += ", ";
      append_quoted(out_, name_space.attributes[i].first);
      out_ += ": ";
      NF_RETURN_IF_ERROR(write(name_space.attributes[i].second, level + 1));
    }
    out_ += "}>";
    return {};
  }

  Status write_plain(const Value& value) {
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "None";
        break;
      case Kind::kBool:
        out_ += value.as_bool() ? "True" : "False";
        break;
      case Kind::kInt:
        out_ += int_to_text(value.as_int());
        break;
      case Kind::kFloat:
        out_ += float_to_text(value.as_double());
        break;
      case Kind::kUndefined:
        out_ += "Undefined";
        break;
      case Kind::kRange: {
        const auto& range = value.as<RangeObject>();
        out_ += "range(" + int_to_text(range.start) + ", " + int_to_text(range.stop);
        if (range.step != 1) out_ += ", " + int_to_text(range.step);
        out_ += ')';
        break;
      }
      case Kind::kMacro: {
        const auto& name = value.as<MacroObject>().node->name;
        out_ += name.empty() ? std::string("<Macro anonymous>") : "<Macro " + quote(name) + ">";
        break;
      }
      case Kind::kLoop: {
        const auto& loop = value.as<LoopObject>();
        if (loop.known_length < 0) return no_text("this loop");
        out_ +=
            "<LoopContext " + std::to_string(loop.index0 + 1) + "/" + std::to_string(loop.known_length) + ">";
        break;
      }
      case Kind::kFunction:
        return no_text("the function '" + std::string(value.as<FunctionObject>().function->name) + "'");
      case Kind::kMethod:
        return no_text("the method '" + std::string(value.as<MethodObject>().method->name) +
                       "', which is not called,");
      case Kind::kIterator:
        return no_text("a generator", "put |list or |join after the filter");
      default:
        return no_text("a " + std::string(type_name(value)));
    }
    return {};
  }

  // Python would print an address in memory.
  static Status no_text(const std::string& what, std::string hint = {}) {
    return error(ErrorCode::kUnsupported, what + " has no text to print", std::move(hint));
  }

  const Runtime& runtime_;
  std::string& out_;
};

void append_json_string(std::string& out, std::string_view text, bool ensure_ascii) {
  out.push_back('"');
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t c = next_code_point(text, pos);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\b') {
      out += "\\b";
    } else if (c == '\f') {
      out += "\\f";
    } else if (c >= 0x20 && (!ensure_ascii || c < 0x7F)) {
      out += text.substr(begin, pos - begin);
    } else if (c < 0x10000) {
      out += "\\u";
      append_hex(out, c, 4);
    } else {
      out += "\\u";
      append_hex(out, 0xD800 + ((c - 0x10000) >> 10), 4);
      out += "\\u";
      append_hex(out, 0xDC00 + ((c - 0x10000) & 0x3FF), 4);
    }
  }
  out.push_back('"');
}

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return float_to_text(value);
}

class JsonWriter {
 public:
  JsonWriter(const Runtime& runtime, const JsonStyle& style, std::string& out)
      : runtime_(runtime), style_(style), out_(out) {}

  Status write(const Value& value, int level) {
    if (static_cast<int64_t>(out_.size()) > runtime_.limits().max_output_bytes) {
      return runtime_.check_size(static_cast<Int>(out_.size()));
    }
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        return {};
      case Kind::kBool:
        out_ += value.as_bool() ? "true" : "false";
        return {};
      case Kind::kInt:
        out_ += int_to_text(value.as_int());
        return {};
      case Kind::kFloat:
        out_ += json_float(value.as_double());
        return {};
      case Kind::kString:
        append_json_string(out_, value.text(), style_.ensure_ascii);
        return {};
      case Kind::kList:
      case Kind::kTuple:
        return write_list(value.items(), level);
      case Kind::kDict:
        return write_dict(value.dict(), level);
      default:
        return error(ErrorCode::kInvalidArgument,
                     "Object of type " + std::string(type_name(value)) + " is not JSON serializable");
    }
  }

 private:
  void break_line(int level) {
    if (!style_.indent) return;
    out_.push_back('\n');
    for (int i = 0; i < level; ++i) out_ += *style_.indent;
  }

  Status write_list(const std::vector<Value>& items, int level) {
    if (items.empty()) {
      out_ += "[]";
      return {};
    }
    out_.push_back('[');
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      break_line(level + 1);
      NF_RETURN_IF_ERROR(write(items[i], level + 1));
    }
    break_line(level);
    out_.push_back(']');
    return {};
  }

  Status write_key(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        append_json_string(out_, key.text(), style_.ensure_ascii);
        return {};
      case Kind::kNone:
        out_ += "\"null\"";
        return {};
      case Kind::kBool:
        out_ += key.as_bool() ? "\"true\"" : "\"false\"";
        return {};
      case Kind::kInt:
        out_ += '"' + int_to_text(key.as_int()) + '"';
        return {};
      case Kind::kFloat:
        out_ += '"' + json_float(key.as_double()) + '"';
        return {};
      default:
        return error(ErrorCode::kInvalidArgument,
                     "keys must be str, int, float, bool or None, not " + std::string(type_name(key)));
    }
  }

  Status write_dict(const DictObject& dict, int level) {
    if (dict.entries.empty()) {
      out_ += "{}";
      return {};
    }
    std::vector<const std::pair<Value, Value>*> order;
    order.reserve(dict.entries.size());
    for (const auto& entry : dict.entries) order.push_back(&entry);
    if (style_.sort_keys) {
      const bool all_text =
          std::all_of(order.begin(), order.end(), [](auto* e) { return e->first.is_string(); });
      const bool all_numbers =
          std::all_of(order.begin(), order.end(), [](auto* e) { return e->first.is_number(); });
      if (!all_text && !all_numbers && order.size() > 1) {
        return error(ErrorCode::kInvalidArgument, "keys of different types cannot be sorted");
      }
      std::stable_sort(order.begin(), order.end(),
                       [](auto* a, auto* b) { return compare_keys(a->first, b->first) < 0; });
    }
    out_.push_back('{');
    for (size_t i = 0; i < order.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      break_line(level + 1);
      NF_RETURN_IF_ERROR(write_key(order[i]->first));
      out_ += style_.key_separator;
      NF_RETURN_IF_ERROR(write(order[i]->second, level + 1));
    }
    break_line(level);
    out_.push_back('}');
    return {};
  }

  const Runtime& runtime_;
  const JsonStyle& style_;
  std::string& out_;
};

}  // namespace

std::string int_to_text(Int value) {
  if (value == 0) return "0";
  const bool negative = value < 0;
  std::string digits;
  while (value != 0) {
    const int digit = static_cast<int>(value % 10);
    digits.push_back(static_cast<char>('0' + (digit < 0 ? -digit : digit)));
    value /= 10;
  }
  if (negative) digits.push_back('-');
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string float_to_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view shortest(buffer, static_cast<size_t>(end - buffer));
  // [-]d[.ddd]e±dd
  const size_t e = shortest.find('e');
  const int exponent = std::atoi(std::string(shortest.substr(e + 1)).c_str());
  std::string digits;
  for (const char c : shortest.substr(0, e)) {
    if (c >= '0' && c <= '9') digits.push_back(c);
  }
  std::string out = std::signbit(value) ? "-" : "";
  const int num_digits = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (num_digits > 1) out += "." + digits.substr(1);
    out += exponent < 0 ? "e-" : "e+";
    const int magnitude = std::abs(exponent);
    if (magnitude < 10) out += '0';
    return out + std::to_string(magnitude);
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (num_digits <= exponent + 1) {
    return out + digits + std::string(static_cast<size_t>(exponent + 1 - num_digits), '0') + ".0";
  }
  return out + digits.substr(0, static_cast<size_t>(exponent) + 1) + "." +
         digits.substr(static_cast<size_t>(exponent) + 1);
}

std::string quote(std::string_view text) {
  std::string out;
  append_quoted(out, text);
  return out;
}

Result<std::string> to_text(const Runtime& runtime, const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return std::string();
  return to_repr(runtime, value);
}

Result<std::string> to_repr(const Runtime& runtime, const Value& value) {
  std::string out;
  NF_RETURN_IF_ERROR(ReprWriter(runtime, out).write(value));
  return out;
}

Result<std::string> to_ascii(const Runtime& runtime, const Value& value) {
  NF_TRY(const std::string repr, to_repr(runtime, value));
  std::string out;
  for (size_t pos = 0; pos < repr.size();) {
    const char32_t c = next_code_point(repr, pos);
    if (c < 0x80) {
      out.push_back(static_cast<char>(c));
    } else {
      append_escape(out, c);
    }
  }
  return out;
}

Result<std::string> to_json(const Runtime& runtime, const Value& value, const JsonStyle& style) {
  std::string out;
  NF_RETURN_IF_ERROR(JsonWriter(runtime, style, out).write(value, 0));
  return out;
}

}  // namespace nemoforge::text::jinja
