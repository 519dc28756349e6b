#include "text/tokenizer/split_pattern.h"

#include <algorithm>
#include <array>
#include <optional>

namespace nemoforge::text {
namespace {

constexpr std::array<std::string_view, 36> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd",
    "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm",
    "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cn"};

bool is_ascii_alnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_hex_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// One pass over the pattern; each method consumes one construct at pos_ and appends its translation to out_.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  Result<std::string> run() {
    while (pos_ < pattern_.size()) {
      switch (pattern_[pos_]) {
        case '\\':
          NF_RETURN_IF_ERROR(escape());
          break;
        case '[':
          NF_RETURN_IF_ERROR(character_class());
          break;
        case '(':
          NF_RETURN_IF_ERROR(group());
          break;
        case '{':
          NF_RETURN_IF_ERROR(interval());
          break;
        default:
          copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  char peek(size_t ahead = 0) const { return pos_ + ahead < pattern_.size() ? pattern_[pos_ + ahead] : '\0'; }

  void copy(size_t num_bytes) {
    out_.append(pattern_.substr(pos_, num_bytes));
    pos_ += num_bytes;
  }

  bool starts_with(std::string_view prefix) const { return pattern_.substr(pos_).starts_with(prefix); }

  tl::unexpected<Error> unsupported(std::string_view what) const {
    return error(ErrorCode::kUnsupported, "regex: " + std::string(what) + " at byte " + std::to_string(pos_) +
                                              " of \"" + std::string(pattern_) + "\" is not supported");
  }

  // What may stand both in and outside a class.
  Status escape() {
    const char c = peek(1);
    if (c == 'p' || c == 'P') return property();
    if (c == 'x' || c == 'u') return code_point();
    if (c == 'v') {  // the vertical tab; in PCRE2 a class of line breaks
      out_ += "\\x{0B}";
      pos_ += 2;
      return {};
    }
    const bool is_shared = std::string_view("sSdDnrtfea").find(c) != std::string_view::npos;
    const bool is_anchor = !in_class_ && std::string_view("AzZ").find(c) != std::string_view::npos;
    if (c == '\0' || (is_ascii_alnum(c) && !is_shared && !is_anchor)) {
      return unsupported("escape \"" + std::string(pattern_.substr(pos_, 2)) + "\"");
    }
    copy(2);
    return {};
  }

  Status property() {
    const size_t end = pattern_.find('}', pos_);
    if (peek(2) != '{' || end == std::string_view::npos) return unsupported("property without braces");
    std::string_view name = pattern_.substr(pos_ + 3, end - pos_ - 3);
    if (name.starts_with('^')) name.remove_prefix(1);
    if (std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end()) {
      return unsupported("property \"" + std::string(name) + "\" (general categories are known)");
    }
    copy(end + 1 - pos_);
    return {};
  }

  // \uHHHH, \x{H...}, and \xHH below 80 (above, Oniguruma means a raw byte).
  Status code_point() {
    const bool braces = peek(1) == 'x' && peek(2) == '{';
    const size_t begin = pos_ + (braces ? 3 : 2);
    const size_t max_digits = braces ? 6 : peek(1) == 'u' ? 4 : 2;
    size_t num_digits = 0;
    while (num_digits < max_digits && begin + num_digits < pattern_.size() &&
           is_hex_digit(pattern_[begin + num_digits])) {
      ++num_digits;
    }
    const std::string_view digits = pattern_.substr(begin, num_digits);
    const bool complete = braces ? num_digits > 0 && pattern_.substr(begin + num_digits).starts_with('}')
                                 : num_digits == max_digits;
    if (!complete || (!braces && max_digits == 2 && digits[0] > '7'))
      return unsupported("hexadecimal escape");
    out_.append("\\x{").append(digits).append("}");
    pos_ = begin + num_digits + (braces ? 1 : 0);
    return {};
  }

  Status character_class() {
    copy(1);
    if (peek() == '^') copy(1);
    if (peek() == ']') return unsupported("\"]\" as the first member of a class");
    in_class_ = true;
    while (pos_ < pattern_.size() && peek() != ']') {
      if (peek() == '[') return unsupported("nested character class");
      if (starts_with("&&")) return unsupported("class intersection");
      if (peek() == '\\') {
        NF_RETURN_IF_ERROR(escape());
      } else {
        copy(1);
      }
    }
    if (pos_ == pattern_.size()) return unsupported("unterminated character class");
    in_class_ = false;
    copy(1);
    return {};
  }

  Status group() {
    if (peek(1) != '?') {
      if (peek(1) == '*') return unsupported("\"(*\"");
      copy(1);
      return {};
    }
    for (const std::string_view opening : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
      if (starts_with(opening)) {
        copy(opening.size());
        return {};
      }
    }
    if (starts_with("(?i:")) return caseless_group();
    return unsupported("group \"" + std::string(pattern_.substr(pos_, 3)) + "\"");
  }

  // English contractions are what patterns fold the case of. Letters and plain classes of letters fold alike
  // in both libraries; properties, and pairs of letters that are one ligature, do not.
  Status caseless_group() {
    const size_t end = pattern_.find(')', pos_);
    const std::string_view body =
        pattern_.substr(pos_ + 4, end == std::string_view::npos ? 0 : end - pos_ - 4);
    const bool plain = std::all_of(body.begin(), body.end(), [](char c) {
      return is_ascii_alnum(c) || c == '\'' || c == '|' || c == '[' || c == ']';
    });
    for (const std::string_view ligature : {"ss", "ff", "fi", "fl", "st"}) {
      if (body.find(ligature) != std::string_view::npos) return unsupported("caseless ligature");
    }
    if (!plain || body.empty()) return unsupported("caseless group of other than letters");
    copy(4);
    return {};
  }

  // {n}, {n,}, {n,m} and Ruby's {,m}; any other brace is itself.
  Status interval() {
    const size_t end = pattern_.find('}', pos_);
    const std::string_view body =
        pattern_.substr(pos_ + 1, end == std::string_view::npos ? 0 : end - pos_ - 1);
    const size_t comma = body.find(',');
    const auto is_number = [](std::string_view text) {
      return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    };
    const std::string_view low = body.substr(0, comma);
    const std::string_view high = comma == std::string_view::npos ? low : body.substr(comma + 1);
    if (!is_number(low) || !is_number(high) || (low.empty() && high.empty())) {
      out_ += "\\{";
      ++pos_;
      return {};
    }
    const bool fixed = comma == std::string_view::npos;
    const char next = end + 1 < pattern_.size() ? pattern_[end + 1] : '\0';
    // x{2}+ and x{2}? repeat the repetition in Ruby; in PCRE2 they make it possessive or lazy.
    if (next == '+' || (fixed && next == '?')) return unsupported("quantifier after an interval");
    out_ += low.empty() ? "{0" : "{";
    out_.append(body).append("}");
    pos_ = end + 1;
    return {};
  }

  std::string_view pattern_;
  size_t pos_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

Result<std::string> translate_split_pattern(std::string_view pattern) {
  return Translator(pattern).run();
}

std::string literal_split_pattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const bool is_ascii_punctuation = c > ' ' && c < 0x7F && !is_ascii_alnum(c);
    if (is_ascii_punctuation) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace nemoforge::text
