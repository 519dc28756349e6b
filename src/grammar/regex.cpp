#include "grammar/regex.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <utility>

#include "grammar/grammar.h"

namespace nemoforge::grammar {
namespace {

constexpr int kMaxGroupDepth = 64;

const CodePointSet kAny = {{0, kMaxCodePoint}};
const CodePointSet kDigit = {{'0', '9'}};
const CodePointSet kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CodePointSet kWhite = {{'\t', '\r'}, {' ', ' '}};

class RegexParser {
 public:
  RegexParser(std::string_view pattern, RegexTarget target) : text_(pattern), target_(target) {}

  Result<Expr> parse() {
    const bool anchored_start = take('^');
    NF_TRY(Expr body, parse_choice(0));
    if (pos_ < text_.size() && !(text_[pos_] == '$' && pos_ + 1 == text_.size())) {
      if (text_[pos_] == '$') return unsupported("$ anywhere but at the end");
      return invalid("unexpected )");
    }
    const bool anchored_end = pos_ < text_.size();
    if ((anchored_start || anchored_end) && has_top_level_choice_) {
      return unsupported("an anchor beside | outside of a group");
    }
    if (target_ == RegexTarget::kText) return body;
    NF_TRY(const Expr any, expression_of(kAny));
    std::vector<Expr> parts;
    if (!anchored_start) parts.push_back(repeat(any, 0, -1));
    parts.push_back(std::move(body));
    if (!anchored_end) parts.push_back(repeat(any, 0, -1));
    return sequence(std::move(parts));
  }

 private:
  [[nodiscard]] tl::unexpected<Error> invalid(const std::string& what) const {
    return error(ErrorCode::kInvalidArgument, "regex: " + what + " at byte " + std::to_string(pos_) +
                                                  " of \"" + std::string(text_) + "\"");
  }
  [[nodiscard]] tl::unexpected<Error> unsupported(const std::string& what) const {
    return error(ErrorCode::kUnsupported, "regex: " + what + " (byte " + std::to_string(pos_) + " of \"" +
                                              std::string(text_) + "\") is not supported");
  }

  bool take(char c) {
    if (pos_ >= text_.size() || text_[pos_] != c) return false;
    ++pos_;
    return true;
  }

  Result<Expr> parse_choice(int depth) {
    if (depth > kMaxGroupDepth) return invalid("groups nest too deep");
    std::vector<Expr> branches;
    do {
      NF_TRY(Expr branch, parse_sequence(depth));
      branches.push_back(std::move(branch));
    } while (take('|'));
    if (branches.size() == 1) return std::move(branches[0]);
    has_top_level_choice_ = has_top_level_choice_ || depth == 0;
    return choice(std::move(branches));
  }

  Result<Expr> parse_sequence(int depth) {
    std::vector<Expr> parts;
    while (pos_ < text_.size() && text_[pos_] != '|' && text_[pos_] != ')' && text_[pos_] != '$') {
      NF_TRY(Expr atom, parse_atom(depth));
      NF_TRY(atom, parse_repeats(std::move(atom)));
      parts.push_back(std::move(atom));
    }
    if (depth > 0 && pos_ < text_.size() && text_[pos_] == '$') return unsupported("$ in a group");
    return sequence(std::move(parts));
  }

  Result<Expr> parse_repeats(Expr atom) {
    int32_t min = 0;
    int32_t max = -1;
    if (take('*')) {
    } else if (take('+')) {
      min = 1;
    } else if (take('?')) {
      max = 1;
    } else if (pos_ < text_.size() && text_[pos_] == '{') {
      NF_RETURN_IF_ERROR(parse_counts(min, max));
    } else {
      return atom;
    }
    (void)take('?');  // lazy: the same strings
    if (pos_ < text_.size() && std::string_view("*+?{").find(text_[pos_]) != std::string_view::npos) {
      return unsupported("a repetition of a repetition without a group");
    }
    return repeat(std::move(atom), min, max);
  }

  Status parse_counts(int32_t& min, int32_t& max) {
    ++pos_;
    const auto number = [&](int32_t& out) {
      const char* begin = text_.data() + pos_;
      const auto [end, failure] = std::from_chars(begin, text_.data() + text_.size(), out);
      pos_ += static_cast<size_t>(end - begin);
      return failure == std::errc() && out >= 0 && out <= kMaxRepeat;
    };
    if (!number(min)) return invalid("expected a number up to " + std::to_string(kMaxRepeat));
    max = min;
    if (take(',')) {
      max = -1;
      if (pos_ < text_.size() && text_[pos_] != '}' && !number(max)) return invalid("expected a number");
    }
    if (!take('}')) return invalid("expected }");
    if (max >= 0 && max < min) return invalid("a repetition's end is below its start");
    return {};
  }

  Result<Expr> parse_atom(int depth) {
    const char c = text_[pos_];
    if (c == '(') {
      ++pos_;
      if (take('?') && !take(':')) return unsupported("(? but for (?:");
      NF_TRY(Expr group, parse_choice(depth + 1));
      if (!take(')')) return invalid("expected )");
      return group;
    }
    if (c == '[') return parse_class();
    if (c == '^') return unsupported("^ anywhere but at the start");
    if (std::string_view("*+?{").find(c) != std::string_view::npos) return invalid("nothing to repeat");
    CodePointSet set;
    if (c == '.') {
      ++pos_;
      set = complement({{'\n', '\n'}});
    } else if (c == '\\') {
      NF_TRY(set, parse_escape());
    } else {
      NF_TRY(const char32_t value, take_code_point(text_, pos_));
      set = {{value, value}};
    }
    return expression_of(set);
  }

  [[nodiscard]] Result<Expr> expression_of(const CodePointSet& set) const {
    switch (target_) {
      case RegexTarget::kText:
      case RegexTarget::kSearch:
        break;
      case RegexTarget::kJsonString:
        return json_string_character(set);
      case RegexTarget::kToolJsonString:
        return json_string_character(set, true);
      case RegexTarget::kToolText: {
        CodePointSet excluded = complement(set);
        excluded.emplace_back('<', '<');
        const CodePointSet rest = complement(std::move(excluded));
        if (rest.empty() && !set.empty()) return unsupported("< in the argument of a tool");
        return one_of(rest);
      }
    }
    return one_of(set);
  }

  Result<CodePointSet> parse_escape() {
    ++pos_;
    if (pos_ >= text_.size()) return invalid("nothing follows the last backslash");
    const char c = text_[pos_++];
    switch (c) {
      case 'd':
        return kDigit;
      case 'D':
        return complement(kDigit);
      case 'w':
        return kWord;
      case 'W':
        return complement(kWord);
      case 's':
        return kWhite;
      case 'S':
        return complement(kWhite);
      case 'n':
        return CodePointSet{{'\n', '\n'}};
      case 'r':
        return CodePointSet{{'\r', '\r'}};
      case 't':
        return CodePointSet{{'\t', '\t'}};
      case 'f':
        return CodePointSet{{'\f', '\f'}};
      case 'v':
        return CodePointSet{{'\v', '\v'}};
      case 'x':
        return parse_hex(2);
      case 'u':
        return parse_hex(4);
      default:
        break;
    }
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      return unsupported(std::string("\\") + c);
    }
    --pos_;
    NF_TRY(const char32_t value, take_code_point(text_, pos_));
    return CodePointSet{{value, value}};
  }

  Result<CodePointSet> parse_hex(size_t num_digits) {
    const std::string_view digits = text_.substr(pos_, num_digits);
    uint32_t value = 0;
    const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != num_digits || failure != std::errc() || end != digits.data() + num_digits) {
      return invalid("expected " + std::to_string(num_digits) + " hexadecimal digits");
    }
    pos_ += num_digits;
    return CodePointSet{{value, value}};
  }

  Result<Expr> parse_class() {
    ++pos_;
    const bool negated = take('^');
    CodePointSet set;
    bool is_first = true;
    while (pos_ < text_.size() && (text_[pos_] != ']' || is_first)) {
      is_first = false;
      NF_TRY(const CodePointSet from, parse_class_item());
      const bool is_range = pos_ + 1 < text_.size() && text_[pos_] == '-' && text_[pos_ + 1] != ']';
      if (!is_range) {
        set.insert(set.end(), from.begin(), from.end());
        continue;
      }
      ++pos_;
      NF_TRY(const CodePointSet to, parse_class_item());
      const bool is_single = from.size() == 1 && to.size() == 1 && from[0].first == from[0].second &&
                             to[0].first == to[0].second && from[0].first <= to[0].first;
      if (!is_single) return invalid("a range's ends are not two characters in order");
      set.emplace_back(from[0].first, to[0].first);
    }
    if (!take(']')) return invalid("expected ]");
    std::sort(set.begin(), set.end());
    return expression_of(negated ? complement(std::move(set)) : set);
  }

  Result<CodePointSet> parse_class_item() {
    if (text_[pos_] == '\\') return parse_escape();
    if (text_[pos_] == '[' && pos_ + 1 < text_.size() && text_[pos_ + 1] == ':') {
      return unsupported("a [:class:]");
    }
    NF_TRY(const char32_t value, take_code_point(text_, pos_));
    return CodePointSet{{value, value}};
  }

  std::string_view text_;
  RegexTarget target_;
  size_t pos_ = 0;
  bool has_top_level_choice_ = false;
};

}  // namespace

Result<char32_t> take_code_point(std::string_view text, size_t& pos) {
  const auto byte_at = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const unsigned lead = byte_at(pos);
  const size_t size = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  auto value = static_cast<char32_t>(size < 2 ? lead : lead & (0x7FU >> size));
  bool well_formed = size != 0;
  for (size_t i = 1; i < size; ++i) {
    well_formed = well_formed && (byte_at(pos + i) & 0xC0U) == 0x80U;
    value = (value << 6) | (byte_at(pos + i) & 63U);
  }
  if (!well_formed || value > kMaxCodePoint) {
    return error(ErrorCode::kInvalidArgument, "byte " + std::to_string(pos) + " is not UTF-8");
  }
  pos += size;
  return value;
}

Expr json_string_character(const CodePointSet& set, bool escape_less_than) {
  constexpr std::array<std::pair<char32_t, const char*>, 8> kEscapes = {{{'<', "\\u003c"},
                                                                         {'"', "\\\""},
                                                                         {'\\', "\\\\"},
                                                                         {'\b', "\\b"},
                                                                         {'\f', "\\f"},
                                                                         {'\n', "\\n"},
                                                                         {'\r', "\\r"},
                                                                         {'\t', "\\t"}}};
  CodePointSet excluded = complement(set);
  excluded.insert(excluded.end(), {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}});
  if (escape_less_than) excluded.emplace_back('<', '<');
  std::vector<Expr> parts = {one_of(complement(std::move(excluded)))};
  for (const auto& [value, escape] : kEscapes) {
    if (value == '<' && !escape_less_than) continue;
    for (const auto& [first, last] : set) {
      if (value < first || value > last) continue;
      parts.push_back(literal(escape));
      break;
    }
  }
  return choice(std::move(parts));
}

Result<Expr> parse_regex(std::string_view pattern, RegexTarget target) {
  if (pattern.size() > kMaxSourceBytes)
    return error(ErrorCode::kInvalidArgument, "regex: the pattern is too long");
  return RegexParser(pattern, target).parse();
}

Result<Grammar> from_regex(std::string_view pattern) {
  NF_TRY(Expr expression, parse_regex(pattern, RegexTarget::kText));
  GrammarBuilder builder;
  const int32_t root = builder.add_rule();
  builder.define(root, std::move(expression));
  return builder.build(root);
}

}  // namespace nemoforge::grammar
