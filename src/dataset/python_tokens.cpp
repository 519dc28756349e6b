#include "dataset/python_tokens.h"

#include <algorithm>
#include <cstddef>
#include <string>

namespace nemoforge::dataset {
namespace {

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_part(char c) {
  return is_name_start(c) || is_digit(c);
}

// Reads the source from left to right.
class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<std::string_view> run() {
    while (pos_ < source_.size()) step();
    return std::move(tokens_);
  }

 private:
  void step() {
    const char c = source_[pos_];
    if (c == '\n') {
      // Within brackets a line break ends no statement.
      if (depth_ == 0) at_statement_start_ = true;
      ++pos_;
    } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f') {
      ++pos_;
    } else if (c == '\\' && pos_ + 1 < source_.size() && source_[pos_ + 1] == '\n') {
      pos_ += 2;
    } else if (c == '#') {
      pos_ = std::min(source_.find('\n', pos_), source_.size());
    } else if (const size_t quote = quote_position(); quote != std::string_view::npos) {
      take_string(quote);
    } else {
      take_word_or_operator();
    }
  }

  // Where the quote of a string literal that begins here stands: after its prefix, if it has one.
  [[nodiscard]] size_t quote_position() const {
    for (size_t pos = pos_; pos < std::min(pos_ + 3, source_.size()); ++pos) {
      if (source_[pos] == '"' || source_[pos] == '\'') return pos;
      if (std::string_view("rRbBuUfF").find(source_[pos]) == std::string_view::npos) break;
    }
    return std::string_view::npos;
  }

  void take_string(size_t quote_pos) {
    const char quote = source_[quote_pos];
    const bool is_triple = source_.substr(quote_pos, 3) == std::string(3, quote);
    size_t pos = quote_pos + (is_triple ? 3 : 1);
    while (pos < source_.size()) {
      if (source_[pos] == '\\') {
        pos += 2;
      } else if (is_triple && source_.substr(pos, 3) == std::string(3, quote)) {
        pos += 3;
        break;
      } else if (!is_triple && (source_[pos] == quote || source_[pos] == '\n')) {
        pos += source_[pos] == quote ? 1 : 0;
        break;
      } else {
        ++pos;
      }
    }
    pos = std::min(pos, source_.size());
    const bool stands_alone = at_statement_start_ && ends_statement(pos);
    if (!stands_alone) push(pos);
    pos_ = pos;
  }

  // Whether only white space or a comment follows on the line.
  [[nodiscard]] bool ends_statement(size_t pos) const {
    const size_t next = source_.find_first_not_of(" \t\r", pos);
    return next == std::string_view::npos || source_[next] == '\n' || source_[next] == '#';
  }

  void take_word_or_operator() {
    size_t end = pos_ + 1;
    const char c = source_[pos_];
    const bool is_number = is_digit(c) || (c == '.' && end < source_.size() && is_digit(source_[end]));
    if (is_number) {
      while (end < source_.size() &&
             (is_name_part(source_[end]) || source_[end] == '.' || is_exponent_sign(end)))
        ++end;
    } else if (is_name_start(c)) {
      while (end < source_.size() && is_name_part(source_[end])) ++end;
    } else if (c == '(' || c == '[' || c == '{') {
      ++depth_;
    } else if (c == ')' || c == ']' || c == '}') {
      depth_ = std::max(depth_ - 1, 0);
    }
    push(end);
    pos_ = end;
    // "class A: 'docstring'" on one line stays: rare, and harmless.
  }

  // The sign of 1e-5.
  [[nodiscard]] bool is_exponent_sign(size_t pos) const {
    return (source_[pos] == '-' || source_[pos] == '+') &&
           (source_[pos - 1] == 'e' || source_[pos - 1] == 'E') && !source_.substr(pos_).starts_with("0x");
  }

  void push(size_t end) {
    tokens_.push_back(source_.substr(pos_, end - pos_));
    at_statement_start_ = false;
  }

  std::string_view source_;
  size_t pos_ = 0;
  int depth_ = 0;  // of brackets
  bool at_statement_start_ = true;
  std::vector<std::string_view> tokens_;
};

}  // namespace

std::vector<std::string_view> python_tokens(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace nemoforge::dataset
