#include "text/jinja/lexer.h"

#include <algorithm>
#include <cstdlib>

#include "text/jinja/unicode.h"

namespace nemoforge::text::jinja {
namespace {

constexpr size_t kNpos = std::string_view::npos;

// Longest first, as they are matched.
constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                           "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                           ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

bool is_ascii_digit(char c) {
  return c >= '0' && c <= '9';
}

// \r\n and \r to \n.
std::string normalize_newlines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      out.push_back(text[i]);
    } else {
      out.push_back('\n');
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    }
  }
  return out;
}

int count_newlines(std::string_view text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), text_(source_) {}

  Result<std::vector<Token>> run() {
    while (pos_ < text_.size()) NF_RETURN_IF_ERROR(lex_root());
    add(TokenType::kEnd);
    return std::move(tokens_);
  }

 private:
  [[nodiscard]] bool at(size_t pos, std::string_view what) const {
    return text_.substr(pos, what.size()) == what;
  }

  Token& add(TokenType type, std::string value = {}) {
    Token& token = tokens_.emplace_back();
    token.type = type;
    token.line = line_;
    token.text = std::move(value);
    return token;
  }

  // Moves to `end`, counting lines.
  void advance(size_t end) {
    line_ += count_newlines(text_.substr(pos_, end - pos_));
    line_starting_ = end > pos_ ? text_[end - 1] == '\n' : line_starting_;
    pos_ = end;
  }

  [[nodiscard]] size_t skip_space(size_t pos) const {
    while (pos < text_.size()) {
      size_t after = pos;
      if (!is_space(next_code_point(text_, after))) break;
      pos = after;
    }
    return pos;
  }

  // Where a tag written as `name` ends that begins at `open` ("{%" already seen there); npos where it is
  // another. `trims` says whether a newline after it is part of it.
  [[nodiscard]] size_t match_bare_tag(size_t open, std::string_view name, bool allow_plus, bool trims) const {
    size_t pos = open + 2;
    if (pos < text_.size() && (text_[pos] == '-' || text_[pos] == '+')) ++pos;
    pos = skip_space(pos);
    if (!at(pos, name)) return kNpos;
    pos = skip_space(pos + name.size());
    return match_block_end(pos, allow_plus, trims);
  }

  // The end of a "%}", "-%}" or "+%}" at `pos`; npos where there is none.
  [[nodiscard]] size_t match_block_end(size_t pos, bool allow_plus, bool trims,
                                       std::string_view close = "%}") const {
    if (allow_plus && at(pos, "+") && at(pos + 1, close)) return pos + 1 + close.size();
    if (at(pos, "-") && at(pos + 1, close)) return skip_space(pos + 1 + close.size());
    if (!at(pos, close)) return kNpos;
    pos += close.size();
    return trims && pos < text_.size() && text_[pos] == '\n' ? pos + 1 : pos;
  }

  // Emits the data before a tag, stripped as the tag's sign and lstrip_blocks say.
  void add_data(std::string_view data, char sign, bool is_variable) {
    std::string_view kept = data;
    if (sign == '-') {
      kept = strip(data, Side::kRight);
    } else if (sign != '+' && !is_variable) {
      const size_t newline = data.rfind('\n');
      const size_t last_line = newline == kNpos ? 0 : newline + 1;
      if ((last_line > 0 || line_starting_) && last_line < data.size() &&
          strip(data.substr(last_line), Side::kBoth).empty()) {
        kept = data.substr(0, last_line);
      }
    }
    if (!kept.empty()) add(TokenType::kData, std::string(kept));
  }

  // Data up to the next tag, and the tag.
  Status lex_root() {
    size_t open = pos_;
    while (true) {
      open = text_.find('{', open);
      if (open == kNpos || open + 1 >= text_.size()) {
        add(TokenType::kData, std::string(text_.substr(pos_)));
        advance(text_.size());
        return {};
      }
      const char kind = text_[open + 1];
      if (kind == '%' || kind == '{' || kind == '#') break;
      ++open;
    }
    const char kind = text_[open + 1];
    const size_t sign_at = open + 2;
    const char sign =
        sign_at < text_.size() && (text_[sign_at] == '-' || text_[sign_at] == '+') ? text_[sign_at] : '\0';
    add_data(text_.substr(pos_, open - pos_), sign, kind == '{');
    const size_t raw_end = kind == '%' ? match_bare_tag(open, "raw", false, false) : kNpos;
    if (raw_end != kNpos) {
      advance(raw_end);
      return lex_raw();
    }
    advance(open);
    if (kind == '#') {
      advance(open + (sign != 0 ? 3 : 2));
      return lex_comment();
    }
    add(kind == '%' ? TokenType::kBlockBegin : TokenType::kVariableBegin);
    advance(open + (sign != 0 ? 3 : 2));
    return lex_code(kind == '%');
  }

  Status lex_comment() {
    const size_t close = text_.find("#}", pos_);
    // As Jinja, which does not mind a comment that begins where the template ends.
    if (close == kNpos && pos_ == text_.size()) return {};
    if (close == kNpos) return syntax_error(line_, "Missing end of comment tag");
    size_t end = close + 2;
    const char before = close > pos_ ? text_[close - 1] : '\0';
    if (before == '-') {
      end = skip_space(end);
    } else if (before != '+' && end < text_.size() && text_[end] == '\n') {
      ++end;
    }
    advance(end);
    return {};
  }

  Status lex_raw() {
    for (size_t open = text_.find("{%", pos_); open != kNpos; open = text_.find("{%", open + 1)) {
      const size_t end = match_bare_tag(open, "endraw", true, true);
      if (end == kNpos) continue;
      const char sign = text_[open + 2] == '-' || text_[open + 2] == '+' ? text_[open + 2] : '\0';
      add_data(text_.substr(pos_, open - pos_), sign, false);
      advance(end);
      return {};
    }
    if (pos_ == text_.size()) return {};
    return syntax_error(line_, "Missing end of raw directive");
  }

  // The inside of a block or variable tag, its end included.
  Status lex_code(bool is_block) {
    std::string balance;  // the closing brackets that are due
    while (pos_ < text_.size()) {
      if (balance.empty()) {
        const size_t end =
            is_block ? match_block_end(pos_, true, true) : match_block_end(pos_, false, false, "}}");
        if (end != kNpos) {
          add(is_block ? TokenType::kBlockEnd : TokenType::kVariableEnd);
          advance(end);
          return {};
        }
      }
      if (const size_t end = skip_space(pos_); end > pos_) {
        advance(end);
        continue;
      }
      NF_RETURN_IF_ERROR(lex_token(balance));
    }
    return {};  // the parser finds the end of the template
  }

  Status lex_token(std::string& balance) {
    const char c = text_[pos_];
    if (is_ascii_digit(c)) return lex_number();
    if (c == '\'' || c == '"') return lex_string();
    size_t end = pos_;
    while (end < text_.size()) {
      size_t after = end;
      const char32_t point = next_code_point(text_, after);
      if (point != '_' && !is_alphanumeric(point)) break;
      end = after;
    }
    if (end > pos_) {
      add(TokenType::kName, std::string(text_.substr(pos_, end - pos_)));
      advance(end);
      return {};
    }
    const auto* op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [&](std::string_view candidate) { return at(pos_, candidate); });
    if (op == std::end(kOperators)) {
      size_t after = pos_;
      (void)next_code_point(text_, after);
      return syntax_error(line_, "unexpected char '" + std::string(text_.substr(pos_, after - pos_)) + "'");
    }
    if (c == '(' || c == '[' || c == '{') {
      balance.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (balance.empty()) return syntax_error(line_, "unexpected '" + std::string(1, c) + "'");
      if (balance.back() != c) {
        return syntax_error(line_, "unexpected '" + std::string(1, c) + "', expected '" +
                                       std::string(1, balance.back()) + "'");
      }
      balance.pop_back();
    }
    add(TokenType::kOperator, std::string(*op));
    advance(pos_ + op->size());
    return {};
  }

  // Digits of the base with single underscores between them, from `pos`.
  [[nodiscard]] size_t skip_digits(size_t pos, int base, bool underscore_first = false) const {
    const auto is_digit_of_base = [&](size_t i) {
      if (i >= text_.size()) return false;
      const char c = text_[i];
      if (base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))) return true;
      return is_ascii_digit(c) && c - '0' < base;
    };
    bool first = !underscore_first;
    while (true) {
      if (is_digit_of_base(pos)) {
        ++pos;
      } else if (!first && pos < text_.size() && text_[pos] == '_' && is_digit_of_base(pos + 1)) {
        pos += 2;
      } else {
        return pos;
      }
      first = false;
    }
  }

  Status lex_number() {
    // A float unless a '.' comes just before, as in x.0.1
    const bool after_dot = pos_ > 0 && text_[pos_ - 1] == '.';
    const size_t digits_end = skip_digits(pos_, 10);
    size_t float_end = digits_end;
    bool has_fraction = false;
    bool has_exponent = false;
    if (at(digits_end, ".") && digits_end + 1 < text_.size() && is_ascii_digit(text_[digits_end + 1])) {
      float_end = skip_digits(digits_end + 1, 10);
      has_fraction = true;
    }
    if (float_end < text_.size() && (text_[float_end] == 'e' || text_[float_end] == 'E')) {
      size_t exponent = float_end + 1;
      if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) ++exponent;
      if (exponent < text_.size() && is_ascii_digit(text_[exponent])) {
        float_end = skip_digits(exponent, 10);
        has_exponent = true;
      }
    }
    if (!after_dot && (has_fraction || has_exponent)) {
      Token& token = add(TokenType::kFloat, plain_digits(pos_, float_end));
      token.number = std::strtod(token.text.c_str(), nullptr);
      advance(float_end);
      return {};
    }
    return lex_integer(digits_end);
  }

  [[nodiscard]] std::string plain_digits(size_t begin, size_t end) const {
    std::string out(text_.substr(begin, end - begin));
    out.erase(std::remove(out.begin(), out.end(), '_'), out.end());
    return out;
  }

  Status lex_integer(size_t digits_end) {
    int base = 10;
    size_t begin = pos_;
    size_t end = digits_end;
    if (text_[pos_] == '0') {
      const char mark = pos_ + 1 < text_.size() ? static_cast<char>(text_[pos_ + 1] | 0x20) : '\0';
      const int marked_base = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 0;
      const size_t marked_end = marked_base != 0 ? skip_digits(pos_ + 2, marked_base, true) : 0;
      if (marked_end > pos_ + 2) {
        base = marked_base;
        begin = pos_ + 2;
        end = marked_end;
      } else {
        // Zeros only: 007 is the integer 00 and then the integer 7.
        end = pos_ + 1;
        while (at(end, "0") || at(end, "_0")) end += at(end, "0") ? 1 : 2;
      }
    }
    Int value = 0;
    for (const char c : plain_digits(begin, end)) {
      const int digit = is_ascii_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
      if (__builtin_mul_overflow(value, Int{base}, &value) ||
          __builtin_add_overflow(value, Int{digit}, &value)) {
        return syntax_error(line_, "the integer needs more than 128 bits");
      }
    }
    add(TokenType::kInteger, std::string(text_.substr(pos_, end - pos_))).integer = value;
    advance(end);
    return {};
  }

  Status lex_string() {
    const char mark = text_[pos_];
    size_t end = pos_ + 1;
    while (end < text_.size() && text_[end] != mark) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) {
      return syntax_error(line_, "unexpected char '" + std::string(1, mark) + "': the string has no end");
    }
    auto value = unescape(text_.substr(pos_ + 1, end - pos_ - 1));
    if (!value) return syntax_error(line_, value.error().message);
    add(TokenType::kString, std::move(*value));
    advance(end + 1);
    return {};
  }

  // The escapes of Python's string literals; unknown ones stay as they are.
  static Result<std::string> unescape(std::string_view text) {
    std::string out;
    for (size_t pos = 0; pos < text.size();) {
      if (text[pos] != '\\') {
        out.push_back(text[pos++]);
        continue;
      }
      ++pos;  // never at the end: the backslash would have escaped the closing quote
      const char c = text[pos];
      constexpr std::string_view kNames = "abfnrtv\\'\"";
      constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t idx = kNames.find(c); idx != kNpos) {
        out.push_back(kValues[idx]);
        ++pos;
      } else if (c == '\n') {
        ++pos;
      } else if (c >= '0' && c <= '7') {
        char32_t value = 0;
        for (int i = 0; i < 3 && pos < text.size() && text[pos] >= '0' && text[pos] <= '7'; ++i) {
          value = value * 8 + static_cast<char32_t>(text[pos++] - '0');
        }
        append_utf8(out, value);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        ++pos;
        NF_RETURN_IF_ERROR(unescape_hex(text, pos, c == 'x' ? 2 : c == 'u' ? 4 : 8, out));
      } else if (c == 'N') {
        return error(ErrorCode::kUnsupported,
                     "the escape \\N{...} is not supported; write \\u and the code point");
      } else {
        unescape_unknown(text, pos, out);
      }
    }
    return out;
  }

  static Status unescape_hex(std::string_view text, size_t& pos, size_t num_digits, std::string& out) {
    char32_t value = 0;
    for (size_t i = 0; i < num_digits; ++i, ++pos) {
      const char c = pos < text.size() ? text[pos] : '\0';
      const char lower = static_cast<char>(c | 0x20);
      if (!is_ascii_digit(c) && (lower < 'a' || lower > 'f')) {
        return error(ErrorCode::kInvalidData, "truncated hexadecimal escape in a string");
      }
      value = value * 16 + static_cast<char32_t>(is_ascii_digit(c) ? c - '0' : lower - 'a' + 10);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      return error(ErrorCode::kInvalidData, "an escape in a string is no Unicode character");
    }
    append_utf8(out, value);
    return {};
  }

  // Jinja turns non-ASCII characters into escapes before it reads them all, so that a backslash before one
  // shows that escape.
  static void unescape_unknown(std::string_view text, size_t& pos, std::string& out) {
    const size_t begin = pos;
    const char32_t point = next_code_point(text, pos);
    out.push_back('\\');
    if (point < 0x80) {
      out.append(text.substr(begin, pos - begin));
      return;
    }
    char buffer[16];
    const char* form = point < 0x100 ? "x%02x" : point < 0x10000 ? "u%04x" : "U%08x";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    std::snprintf(buffer, sizeof(buffer), form, static_cast<unsigned>(point));
#pragma GCC diagnostic pop
    out += buffer;
  }

  std::string source_;
  std::string_view text_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view source) {
  if (!is_valid_utf8(source))
    return error(ErrorCode::kInvalidData, "line 1: the template is not valid UTF-8");
  std::string normalized = normalize_newlines(source);
  if (!normalized.empty() && normalized.back() == '\n') normalized.pop_back();
  return Lexer(std::move(normalized)).run();
}

std::string describe(const Token& token) {
  switch (token.type) {
    case TokenType::kData:
      return "template data / text";
    case TokenType::kVariableBegin:
      return "begin of print statement";
    case TokenType::kVariableEnd:
      return "end of print statement";
    case TokenType::kBlockBegin:
      return "begin of statement block";
    case TokenType::kBlockEnd:
      return "end of statement block";
    case TokenType::kString:
      return "string";
    case TokenType::kInteger:
      return "integer";
    case TokenType::kFloat:
      return "float";
    case TokenType::kName:
    case TokenType::kOperator:
      return token.text;
    case TokenType::kEnd:
      return "end of template";
  }
  return "token";
}

tl::unexpected<Error> syntax_error(int line, const std::string& what) {
  return error(ErrorCode::kInvalidData, "line " + std::to_string(line) + ": " + what);
}

tl::unexpected<Error> unsupported(int line, const std::string& what) {
  return error(ErrorCode::kUnsupported,
               "line " + std::to_string(line) + ": " + what + " is not supported in a chat template");
}

}  // namespace nemoforge::text::jinja
