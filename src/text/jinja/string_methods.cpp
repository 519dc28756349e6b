// The methods of str.
#include <algorithm>

#include "text/jinja/callables.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/str_format.h"
#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

// A result keeps the mark of the string it came from.
Value like(Runtime& runtime, const Value& self, std::string text) {
  return self.as<StringObject>().markup ? runtime.markup(std::move(text)) : runtime.string(std::move(text));
}

template <std::string (*kMap)(std::string_view)>
Result<Value> mapped(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("str method", arguments, {}));
  runtime.work(self.text().size() * 4);
  return like(runtime, self, kMap(self.text()));
}

template <Side kSide>
Result<Value> stripped(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (!arguments.keyword.empty()) return type_error("str.strip() takes no keyword arguments");
  NF_TRY(auto args, bind("strip", arguments, {"chars"}));
  NF_TRY(const auto chars, args.get_text(0, "strip arg"));
  std::optional<std::string_view> view;
  if (chars) view = *chars;
  runtime.work(self.text().size() + (chars ? chars->size() * 16 : 0));
  return like(runtime, self, std::string(strip(self.text(), kSide, view)));
}

// What a split yields, pieces in order.
Result<std::vector<std::string_view>> split_pieces(Runtime& runtime, std::string_view text,
                                                   const std::optional<std::string>& separator,
                                                   int64_t max_splits, bool from_right) {
  std::vector<std::string_view> pieces;
  runtime.work(text.size());
  if (separator && separator->empty()) return type_error("empty separator");
  if (separator && !from_right) {
    size_t begin = 0;
    while (max_splits < 0 || static_cast<int64_t>(pieces.size()) < max_splits) {
      const size_t at = find_linear(text, *separator, begin);
      if (at == std::string_view::npos) break;
      pieces.push_back(text.substr(begin, at - begin));
      begin = at + separator->size();
    }
    pieces.push_back(text.substr(begin));
    return pieces;
  }
  if (separator) {
    // Matches from the right may lie elsewhere than those from the left; searched in the reversed text, since
    // that search is linear.
    const std::string reversed(text.rbegin(), text.rend());
    const std::string reversed_separator(separator->rbegin(), separator->rend());
    size_t end = text.size();
    while (max_splits < 0 || static_cast<int64_t>(pieces.size()) < max_splits) {
      const size_t found = find_linear(reversed, reversed_separator, text.size() - end);
      if (found == std::string::npos) break;
      const size_t after = text.size() - found;
      pieces.push_back(text.substr(after, end - after));
      end = after - separator->size();
    }
    pieces.push_back(text.substr(0, end));
    std::reverse(pieces.begin(), pieces.end());
    return pieces;
  }
  if (from_right) {
    text = strip(text, Side::kRight);
    while (!text.empty()) {
      if (max_splits >= 0 && static_cast<int64_t>(pieces.size()) == max_splits) {
        pieces.push_back(text);
        break;
      }
      size_t begin = text.size();
      while (begin > 0) {
        size_t start = begin - 1;
        while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
        size_t after = start;
        if (is_space(next_code_point(text, after))) break;
        begin = start;
      }
      pieces.push_back(text.substr(begin));
      text = strip(text.substr(0, begin), Side::kRight);
    }
    std::reverse(pieces.begin(), pieces.end());
    return pieces;
  }
  text = strip(text, Side::kLeft);
  while (!text.empty()) {
    if (max_splits >= 0 && static_cast<int64_t>(pieces.size()) == max_splits) {
      pieces.push_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      size_t after = end;
      if (is_space(next_code_point(text, after))) break;
      end = after;
    }
    pieces.push_back(text.substr(0, end));
    text = strip(text.substr(end), Side::kLeft);
  }
  return pieces;
}

template <bool kFromRight>
Result<Value> split(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("split", arguments, {"sep", "maxsplit"}));
  NF_TRY(const auto separator, args.get_text(0, "must be str or None, sep"));
  NF_TRY(const int64_t max_splits, args.get_int(1, "maxsplit", -1));
  NF_TRY(const auto pieces, split_pieces(runtime, self.text(), separator, max_splits, kFromRight));
  NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(pieces.size()) * 16));
  std::vector<Value> items;
  items.reserve(pieces.size());
  for (const std::string_view piece : pieces) items.push_back(like(runtime, self, std::string(piece)));
  return runtime.list(std::move(items));
}

Result<Value> splitlines(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("splitlines", arguments, {"keepends"}));
  const bool keep_ends = is_true(args.get(0));
  const std::string& text = self.text();
  std::vector<Value> lines;
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = pos;
    const char32_t c = next_code_point(text, pos);
    if (!is_line_break(c)) continue;
    if (c == '\r' && pos < text.size() && text[pos] == '\n') ++pos;
    lines.push_back(like(runtime, self, text.substr(begin, (keep_ends ? pos : end) - begin)));
    begin = pos;
  }
  if (begin < text.size()) lines.push_back(like(runtime, self, text.substr(begin)));
  return runtime.list(std::move(lines));
}

// The part of the text that start and stop (code points) select, and its byte offset.
struct Window {
  std::string_view text;
  int64_t first = 0;  // in code points
  bool valid = true;  // false: start lies beyond the end, where not even the empty string is found
};

Result<Window> window(Runtime& runtime, const Value& self, const BoundArguments& args) {
  NF_TRY(const int64_t length, length_of(self));
  NF_TRY(int64_t start, args.get_int(1, "start", 0));
  NF_TRY(int64_t stop, args.get_int(2, "stop", length));
  runtime.work(self.text().size());
  if (start < 0) start = std::max<int64_t>(start + length, 0);
  if (stop < 0) stop = std::max<int64_t>(stop + length, 0);
  stop = std::min(stop, length);
  Window out;
  out.valid = start <= stop;
  if (!out.valid) return out;
  const std::string_view text = self.text();
  const size_t begin = byte_offset(text, start);
  out.text = text.substr(begin, byte_offset(text.substr(begin), stop - start));
  out.first = start;
  return out;
}

size_t rfind_linear(std::string_view text, std::string_view needle) {
  if (needle.empty()) return text.size();
  const std::string reversed_text(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const size_t at = find_linear(reversed_text, reversed_needle);
  return at == std::string::npos ? at : text.size() - at - needle.size();
}

template <bool kFromRight, bool kRaises>
Result<Value> find(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("find", arguments, {"sub", "start", "end"}, 1));
  NF_TRY(const auto needle, args.get_text(0, "sub"));
  if (!needle) return type_error("must be str, not NoneType");
  NF_TRY(const Window in, window(runtime, self, args));
  size_t at = std::string_view::npos;
  if (in.valid) at = kFromRight ? rfind_linear(in.text, *needle) : find_linear(in.text, *needle);
  if (at != std::string_view::npos) return Value(in.first + code_point_length(in.text.substr(0, at)));
  if (kRaises) return type_error("substring not found");
  return Value(-1);
}

Result<Value> count(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("count", arguments, {"sub", "start", "end"}, 1));
  NF_TRY(const auto needle, args.get_text(0, "sub"));
  if (!needle) return type_error("must be str, not NoneType");
  NF_TRY(const Window in, window(runtime, self, args));
  if (!in.valid) return Value(0);
  if (needle->empty()) return Value(code_point_length(in.text) + 1);
  int64_t found = 0;
  for (size_t at = find_linear(in.text, *needle); at != std::string_view::npos;
       at = find_linear(in.text, *needle, at + needle->size())) {
    ++found;
  }
  return Value(found);
}

template <bool kAtEnd>
Result<Value> starts_or_ends(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind(kAtEnd ? "endswith" : "startswith", arguments, {"affix", "start", "end"}, 1));
  NF_TRY(const Window in, window(runtime, self, args));
  std::vector<Value> affixes = {args.get(0)};
  if (args.get(0).is(Kind::kTuple)) affixes = args.get(0).items();
  for (const Value& affix : affixes) {
    if (!affix.is_string()) {
      if (affix.is_undefined()) return undefined_error(affix);
      return type_error(std::string(kAtEnd ? "endswith" : "startswith") +
                        " first arg must be str or a tuple of str, not " + std::string(type_name(affix)));
    }
    if (in.valid && (kAtEnd ? in.text.ends_with(affix.text()) : in.text.starts_with(affix.text())))
      return Value(true);
  }
  return Value(false);
}

Result<Value> replace(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (!arguments.keyword.empty()) return type_error("str.replace() takes no keyword arguments");
  NF_TRY(auto args, bind("replace", arguments, {"old", "new", "count"}, 2));
  NF_TRY(const auto from, args.get_text(0, "replace() argument 1"));
  NF_TRY(const auto to, args.get_text(1, "replace() argument 2"));
  if (!from || !to) return type_error("replace() argument must be str, not None");
  NF_TRY(const int64_t max_count, args.get_int(2, "count", -1));
  NF_TRY(std::string out, replace_text(runtime, self.text(), *from, *to, max_count));
  return like(runtime, self, std::move(out));
}

Result<Value> join(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("join", arguments, {"iterable"}, 1));
  if (args.get(0).is_undefined()) return like(runtime, self, "");
  NF_TRY(const auto items, iterate(runtime, args.get(0)));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_string()) {
      return type_error("sequence item " + std::to_string(i) + ": expected str instance, " +
                        std::string(type_name(items[i])) + " found");
    }
    if (i > 0) out += self.text();
    out += items[i].text();
    NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(out.size())));
  }
  return like(runtime, self, std::move(out));
}

template <bool (*kHolds)(char32_t)>
Result<Value> all_are(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("str test", arguments, {}));
  runtime.work(self.text().size() * 4);
  const std::string& text = self.text();
  for (size_t pos = 0; pos < text.size();) {
    if (!kHolds(next_code_point(text, pos))) return Value(false);
  }
  return Value(!text.empty());
}

Result<Value> is_ascii_method(Runtime&, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("isascii", arguments, {}));
  return Value(self.as<StringObject>().ascii);
}

Result<Value> is_title(Runtime&, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("istitle", arguments, {}));
  bool any = false;
  bool previous_is_cased = false;
  const std::string& text = self.text();
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = next_code_point(text, pos);
    if (is_uppercase(c) || is_titlecase(c)) {
      if (previous_is_cased) return Value(false);
      previous_is_cased = any = true;
    } else if (is_lowercase(c)) {
      if (!previous_is_cased) return Value(false);
      any = true;
    } else {
      previous_is_cased = false;
    }
  }
  return Value(any);
}

template <bool kUpper>
Result<Value> is_case(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("str test", arguments, {}));
  return Value(has_only_case(runtime, self.text(), kUpper));
}

bool isspace_one(char32_t c) {
  return is_space(c);
}

Result<Value> is_printable_method(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (self.text().empty()) return Value(true);
  return all_are<is_printable>(runtime, self, arguments);
}

Result<Value> is_identifier(Runtime&, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("isidentifier", arguments, {}));
  const std::string& text = self.text();
  for (size_t pos = 0; pos < text.size();) {
    const bool first = pos == 0;
    const char32_t c = next_code_point(text, pos);
    if (c != '_' && !(first ? is_alphabetic(c) : is_alphanumeric(c))) return Value(false);
  }
  return Value(!text.empty());
}

template <bool kPrefix>
Result<Value> remove_affix(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind(kPrefix ? "removeprefix" : "removesuffix", arguments, {"affix"}, 1));
  NF_TRY(const auto affix, args.get_text(0, "affix"));
  if (!affix) return type_error("argument must be str, not None");
  std::string_view text = self.text();
  if (kPrefix && text.starts_with(*affix)) text.remove_prefix(affix->size());
  if (!kPrefix && !affix->empty() && text.ends_with(*affix)) text.remove_suffix(affix->size());
  return like(runtime, self, std::string(text));
}

enum class Justify { kLeft, kRight, kCenter };

template <Justify kHow>
Result<Value> justify(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("justify", arguments, {"width", "fillchar"}, 1));
  NF_TRY(const int64_t width, args.get_int(0, "width", 0));
  NF_TRY(const auto fill_text, args.get_text(1, "fillchar"));
  const std::string fill = fill_text.value_or(" ");
  if (code_point_length(fill) != 1)
    return type_error("The fill character must be exactly one character long");
  NF_TRY(const int64_t length, length_of(self));
  if (width <= length) return self;
  const int64_t padding = width - length;
  int64_t left = padding;
  if (kHow == Justify::kLeft) left = 0;
  if (kHow == Justify::kCenter) left = padding / 2 + (padding & width & 1);
  NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(padding) * static_cast<Int>(fill.size())));
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += self.text();
  for (int64_t i = left; i < padding; ++i) out += fill;
  return like(runtime, self, std::move(out));
}

Result<Value> zfill(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("zfill", arguments, {"width"}, 1));
  NF_TRY(const int64_t width, args.get_int(0, "width", 0));
  NF_TRY(const int64_t length, length_of(self));
  if (width <= length) return self;
  NF_RETURN_IF_ERROR(runtime.check_size(width));
  const std::string& text = self.text();
  const size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  return like(
      runtime, self,
      text.substr(0, sign) + std::string(static_cast<size_t>(width - length), '0') + text.substr(sign));
}

template <bool kFromRight>
Result<Value> partition(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("partition", arguments, {"sep"}, 1));
  NF_TRY(const auto separator, args.get_text(0, "sep"));
  if (!separator) return type_error("must be str, not NoneType");
  if (separator->empty()) return type_error("empty separator");
  const std::string& text = self.text();
  runtime.work(text.size());
  const size_t at = kFromRight ? rfind_linear(text, *separator) : find_linear(text, *separator);
  std::vector<Value> parts;
  if (at == std::string::npos) {
    for (int i = 0; i < 3; ++i)
      parts.push_back(like(runtime, self, i == (kFromRight ? 2 : 0) ? text : std::string()));
  } else {
    parts.push_back(like(runtime, self, text.substr(0, at)));
    parts.push_back(like(runtime, self, *separator));
    parts.push_back(like(runtime, self, text.substr(at + separator->size())));
  }
  return runtime.tuple(std::move(parts));
}

Result<Value> expand_tabs(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(auto args, bind("expandtabs", arguments, {"tabsize"}));
  NF_TRY(const int64_t tab_size, args.get_int(0, "tabsize", 8));
  const std::string& text = self.text();
  std::string out;
  int64_t column = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t c = next_code_point(text, pos);
    if (c == '\t') {
      const int64_t spaces = tab_size > 0 ? tab_size - column % tab_size : 0;
      NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(out.size()) + spaces));
      out.append(static_cast<size_t>(spaces), ' ');
      column += spaces;
    } else {
      out += text.substr(begin, pos - begin);
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
  }
  return like(runtime, self, std::move(out));
}

Result<Value> format(Runtime& runtime, const Value& self, Arguments& arguments) {
  NF_TRY(std::string out, format_braces(runtime, self.text(), arguments));
  return like(runtime, self, std::move(out));
}

constexpr Method kStringMethods[] = {
    {"capitalize", mapped<capitalize>},
    {"center", justify<Justify::kCenter>},
    {"count", count},
    {"endswith", starts_or_ends<true>},
    {"expandtabs", expand_tabs},
    {"find", find<false, false>},
    {"format", format},
    {"index", find<false, true>},
    {"isalnum", all_are<is_alphanumeric>},
    {"isalpha", all_are<is_alphabetic>},
    {"isascii", is_ascii_method},
    {"isdecimal", all_are<is_decimal>},
    {"isdigit", all_are<is_digit>},
    {"isidentifier", is_identifier},
    {"islower", is_case<false>},
    {"isnumeric", all_are<is_numeric>},
    {"isprintable", is_printable_method},
    {"isspace", all_are<isspace_one>},
    {"istitle", is_title},
    {"isupper", is_case<true>},
    {"join", join},
    {"ljust", justify<Justify::kLeft>},
    {"lower", mapped<to_lower>},
    {"lstrip", stripped<Side::kLeft>},
    {"partition", partition<false>},
    {"removeprefix", remove_affix<true>},
    {"removesuffix", remove_affix<false>},
    {"replace", replace},
    {"rfind", find<true, false>},
    {"rindex", find<true, true>},
    {"rjust", justify<Justify::kRight>},
    {"rpartition", partition<true>},
    {"rsplit", split<true>},
    {"rstrip", stripped<Side::kRight>},
    {"split", split<false>},
    {"splitlines", splitlines},
    {"startswith", starts_or_ends<false>},
    {"strip", stripped<Side::kBoth>},
    {"swapcase", mapped<swap_case>},
    {"title", mapped<to_title>},
    {"upper", mapped<to_upper>},
    {"zfill", zfill},
};

}  // namespace

bool has_only_case(Runtime& runtime, std::string_view text, bool upper) {
  runtime.work(text.size() * 4);
  bool any = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = next_code_point(text, pos);
    if (is_titlecase(c) || (upper ? is_lowercase(c) : is_uppercase(c))) return false;
    any = any || (upper ? is_uppercase(c) : is_lowercase(c));
  }
  return any;
}

Result<std::string> replace_text(Runtime& runtime, std::string_view text, std::string_view from,
                                 std::string_view to, int64_t max_count) {
  std::string out;
  runtime.work(text.size());
  int64_t replaced = 0;
  if (from.empty()) {
    size_t pos = 0;
    while (max_count < 0 || replaced < max_count) {
      out += to;
      ++replaced;
      NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(out.size())));
      if (pos == text.size()) return out;
      const size_t begin = pos;
      (void)next_code_point(text, pos);
      out += text.substr(begin, pos - begin);
    }
    out += text.substr(pos);
    return out;
  }
  size_t begin = 0;
  while (max_count < 0 || replaced < max_count) {
    const size_t at = find_linear(text, from, begin);
    if (at == std::string_view::npos) break;
    out += text.substr(begin, at - begin);
    out += to;
    begin = at + from.size();
    ++replaced;
    NF_RETURN_IF_ERROR(runtime.check_size(static_cast<Int>(out.size())));
  }
  out += text.substr(begin);
  return out;
}

std::span<const Method> string_methods() {
  return kStringMethods;
}

}  // namespace nemoforge::text::jinja
