// The filters on text (callables.h).
#include <algorithm>

#include "text/jinja/callables.h"
#include "text/jinja/operators.h"
#include "text/jinja/printf_format.h"
#include "text/jinja/python_text.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

// Calls a method of str on the value's text, which keeps its mark.
Result<Value> through_method(Runtime& runtime, const Value& value, std::string_view method,
                             Arguments arguments) {
  Value text = value;
  if (!value.is_string()) {
    NF_TRY(std::string converted, to_text(runtime, value));
    text = runtime.string(std::move(converted));
  }
  return find_method(text, method)->call(runtime, text, arguments);
}

Result<Value> upper(Runtime& runtime, const Value& value, Arguments& arguments) {
  return through_method(runtime, value, "upper", std::move(arguments));
}

Result<Value> lower(Runtime& runtime, const Value& value, Arguments& arguments) {
  return through_method(runtime, value, "lower", std::move(arguments));
}

Result<Value> capitalize_filter(Runtime& runtime, const Value& value, Arguments& arguments) {
  return through_method(runtime, value, "capitalize", std::move(arguments));
}

Result<Value> trim(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("trim", arguments, {"chars"}));
  return through_method(runtime, value, "strip", {{args.get(0)}, {}});
}

Result<Value> center(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("center", arguments, {"width"}));
  return through_method(runtime, value, "center", {{args.get(0, Value(80))}, {}});
}

// Jinja's own: words begin after white space, '-', and opening brackets.
Result<Value> title(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("title", arguments, {}));
  NF_TRY(const std::string text, to_text(runtime, value));
  runtime.work(text.size() * 4);
  const auto is_separator = [](char32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c);
  };
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    size_t after = pos;
    const bool separator = is_separator(next_code_point(text, after));
    while (pos < text.size()) {
      after = pos;
      if (is_separator(next_code_point(text, after)) != separator) break;
      pos = after;
    }
    const std::string_view word = std::string_view(text).substr(begin, pos - begin);
    size_t first = 0;
    (void)next_code_point(word, first);
    out += to_upper(word.substr(0, first));
    out += to_lower(word.substr(first));
  }
  return runtime.string(std::move(out));
}

Result<Value> replace(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("replace", arguments, {"old", "new", "count"}, 2));
  NF_TRY(const std::string text, to_text(runtime, value));
  NF_TRY(const std::string from, to_text(runtime, args.get(0)));
  NF_TRY(const std::string to, to_text(runtime, args.get(1)));
  NF_TRY(const int64_t max_count, args.get_int(2, "count", -1));
  NF_TRY(std::string out, replace_text(runtime, text, from, to, max_count));
  return runtime.string(std::move(out));
}

Result<Value> indent(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("indent", arguments, {"width", "first", "blank"}));
  const Value width = args.get(0, Value(4));
  std::string indention;
  if (width.is_string()) {
    indention = width.text();
  } else {
    NF_TRY(const int64_t spaces, to_index(width, "width"));
    NF_RETURN_IF_ERROR(runtime.check_size(spaces));
    indention.assign(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' ');
  }
  // The newline at the end makes an empty last line count.
  NF_TRY(const Value text, apply_binary(runtime, BinaryOperator::kAdd, value, runtime.string("\n")));
  if (!text.is_string()) return type_error("indent wants a str, not " + std::string(type_name(value)));
  NF_TRY(const Value lines, through_method(runtime, text, "splitlines", {}));
  const bool blank = is_true(args.get(2));
  std::string out = is_true(args.get(1)) ? indention : "";
  for (size_t i = 0; i < lines.items().size(); ++i) {
    const std::string& line = lines.items()[i].text();
    if (i > 0) {
      out += '\n';
      if (blank || !line.empty()) out += indention;
    }
    out += line;
    NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(out.size())));
  }
  return runtime.string(std::move(out));
}

Result<Value> truncate(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("truncate", arguments, {"length", "killwords", "end", "leeway"}));
  NF_TRY(const int64_t length, args.get_int(0, "length", 255));
  NF_TRY(const auto end_text, args.get_text(2, "end"));
  NF_TRY(const int64_t leeway, args.get_int(3, "leeway", 5));
  const std::string end = end_text.value_or("...");
  const int64_t end_length = code_point_length(end);
  if (length < end_length) {
    return type_error("expected length >= " + std::to_string(end_length) + ", got " + std::to_string(length));
  }
  if (leeway < 0) return type_error("expected leeway >= 0, got " + std::to_string(leeway));
  NF_TRY(const int64_t size, length_of(value));
  if (size <= length + leeway) return value;
  if (!value.is_string()) return type_error("truncate wants a str, not " + std::string(type_name(value)));
  std::string out = value.text().substr(0, byte_offset(value.text(), length - end_length));
  if (!is_true(args.get(1))) {
    if (const size_t space = out.rfind(' '); space != std::string::npos) out.resize(space);
  }
  return runtime.string(out + end);
}

Result<Value> word_count(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("wordcount", arguments, {}));
  NF_TRY(const std::string text, to_text(runtime, value));
  runtime.work(text.size() * 4);
  int64_t count = 0;
  bool in_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = next_code_point(text, pos);
    const bool word = c == '_' || is_alphanumeric(c);
    count += word && !in_word ? 1 : 0;
    in_word = word;
  }
  return Value(count);
}

Result<Value> string_filter(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("string", arguments, {}));
  if (value.is_string()) return value;
  NF_TRY(std::string text, to_text(runtime, value));
  return runtime.string(std::move(text));
}

Result<Value> safe(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("safe", arguments, {}));
  NF_TRY(std::string text, to_text(runtime, value));
  return runtime.markup(std::move(text));
}

Result<Value> escape(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("escape", arguments, {}));
  if (value.is_string() && value.as<StringObject>().markup) return value;
  NF_TRY(const std::string text, to_text(runtime, value));
  NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(text.size())));
  return runtime.markup(escape_html(text));
}

Result<Value> force_escape(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("forceescape", arguments, {}));
  NF_TRY(const std::string text, to_text(runtime, value));
  return runtime.markup(escape_html(text));
}

// The named entities that escaping itself and common text produce.
std::string unescape_entities(std::string_view text) {
  constexpr std::pair<std::string_view, std::string_view> kNamed[] = {
      {"amp", "&"}, {"lt", "<"}, {"gt", ">"}, {"quot", "\""}, {"apos", "'"}, {"nbsp", "\xC2\xA0"}};
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const size_t semicolon = text[pos] == '&' ? text.substr(0, std::min(text.size(), pos + 12)).find(';', pos)
                                              : std::string_view::npos;
    if (semicolon == std::string_view::npos) {
      out.push_back(text[pos++]);
      continue;
    }
    const std::string_view name = text.substr(pos + 1, semicolon - pos - 1);
    const auto* named =
        std::find_if(std::begin(kNamed), std::end(kNamed), [&](auto& n) { return n.first == name; });
    char32_t point = 0;
    bool numeric = name.size() > 1 && name[0] == '#';
    const bool hex = numeric && (name[1] == 'x' || name[1] == 'X');
    for (size_t i = hex ? 2 : 1; numeric && i < name.size(); ++i) {
      const char lowered = static_cast<char>(name[i] | 0x20);
      const bool letter = hex && lowered >= 'a' && lowered <= 'f';
      numeric = letter || (name[i] >= '0' && name[i] <= '9');
      point = point * (hex ? 16u : 10u) + static_cast<char32_t>(letter ? lowered - 'a' + 10 : name[i] - '0');
    }
    if (named != std::end(kNamed)) {
      out += named->second;
    } else if (numeric && point > 0 && point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF)) {
      append_utf8(out, point);
    } else {
      out += text.substr(pos, semicolon + 1 - pos);
    }
    pos = semicolon + 1;
  }
  return out;
}

// Removes what lies between `open` and `close`, as often as there is both.
std::string remove_between(std::string_view text, std::string_view open, std::string_view close) {
  std::string out;
  size_t pos = 0;
  while (true) {
    const size_t begin = text.find(open, pos);
    const size_t end = begin == std::string_view::npos ? begin : text.find(close, begin);
    if (end == std::string_view::npos) return out.append(text.substr(pos));
    out.append(text.substr(pos, begin - pos));
    pos = end + close.size();
  }
}

Result<Value> strip_tags(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("striptags", arguments, {}));
  NF_TRY(std::string text, to_text(runtime, value));
  runtime.work(text.size() * 4);
  text = remove_between(remove_between(text, "<!--", "-->"), "<", ">");
  NF_TRY(const Value words, through_method(runtime, runtime.string(std::move(text)), "split", {}));
  NF_TRY(const Value joined, through_method(runtime, runtime.string(" "), "join", {{words}, {}}));
  return runtime.string(unescape_entities(joined.text()));
}

std::string url_quote(std::string_view text, bool for_query) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos || (c == '/' && !for_query);
    if (plain) {
      out.push_back(c);
    } else if (c == ' ' && for_query) {
      out.push_back('+');
    } else {
      out.push_back('%');
      out.push_back(kHex[static_cast<unsigned char>(c) >> 4]);
      out.push_back(kHex[static_cast<unsigned char>(c) & 0xF]);
    }
  }
  return out;
}

Result<Value> url_encode(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("urlencode", arguments, {}));
  const bool is_pairs = value.is(Kind::kDict) || value.is_sequence() || value.is(Kind::kIterator) ||
                        value.is(Kind::kDictView) || value.is_undefined();
  if (!is_pairs) {
    NF_TRY(const std::string text, to_text(runtime, value));
    return runtime.string(url_quote(text, false));
  }
  NF_TRY(const auto pairs,
         iterate(runtime, value.is(Kind::kDict) ? runtime.dict_view(value, DictViewKind::kItems) : value));
  std::string out;
  for (const Value& pair : pairs) {
    NF_TRY(const auto both, iterate(runtime, pair));
    if (both.size() != 2) return type_error("urlencode wants pairs");
    NF_TRY(const std::string key, to_text(runtime, both[0]));
    NF_TRY(const std::string text, to_text(runtime, both[1]));
    if (!out.empty()) out += '&';
    out += url_quote(key, true) + "=" + url_quote(text, true);
    NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(out.size())));
  }
  return runtime.string(std::move(out));
}

Result<Value> xml_attributes(Runtime& runtime, const Value& value, Arguments& arguments) {
  NF_TRY(auto args, bind("xmlattr", arguments, {"autospace"}));
  if (value.is_undefined()) return undefined_error(value);
  if (!value.is(Kind::kDict))
    return type_error("xmlattr wants a mapping, not " + std::string(type_name(value)));
  std::string out;
  for (const auto& [key, item] : value.dict().entries) {
    if (item.is_none() || item.is_undefined()) continue;
    if (!key.is_string()) return type_error("xmlattr wants str keys");
    if (key.text().find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      return type_error("Invalid character in attribute name: " + quote(key.text()));
    }
    NF_TRY(const std::string text, to_text(runtime, item));
    const bool markup = item.is_string() && item.as<StringObject>().markup;
    if (!out.empty()) out += ' ';
    out += escape_html(key.text()) + "=\"" + (markup ? text : escape_html(text)) + "\"";
  }
  if (!out.empty() && (!args.has(0) || is_true(args.get(0)))) out.insert(0, " ");
  return runtime.string(std::move(out));
}

Result<Value> format(Runtime& runtime, const Value& value, Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.keyword.empty()) {
    return type_error("can't handle positional and keyword arguments at the same time");
  }
  NF_TRY(std::string text, to_text(runtime, value));
  const Value pattern = runtime.string(std::move(text));
  if (arguments.keyword.empty())
    return format_printf(runtime, pattern, runtime.tuple(std::move(arguments.positional)));
  std::vector<std::pair<Value, Value>> entries;
  for (auto& [name, item] : arguments.keyword) entries.emplace_back(runtime.string(name), std::move(item));
  return format_printf(runtime, pattern, runtime.dict(std::move(entries)));
}

// Sorted by name.
constexpr Filter kFilters[] = {
    {"capitalize", capitalize_filter},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"forceescape", force_escape},
    {"format", format},
    {"indent", indent},
    {"lower", lower},
    {"replace", replace},
    {"safe", safe},
    {"string", string_filter},
    {"striptags", strip_tags},
    {"title", title},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", upper},
    {"urlencode", url_encode},
    {"wordcount", word_count},
    {"xmlattr", xml_attributes},
};

}  // namespace

std::span<const Filter> text_filters() {
  return kFilters;
}

}  // namespace nemoforge::text::jinja
