#include "dataset/python_tokens.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <unordered_map>

#include "base/sha256.h"

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

// Names that mean the same in every problem.
bool is_fixed_name(std::string_view name) {
  constexpr std::array<std::string_view, 53> kNames = {
      "False", "None",   "True",  "and",   "as",     "assert",   "break",    "class",  "continue",
      "def",   "del",    "elif",  "else",  "except", "finally",  "for",      "from",   "global",
      "if",    "import", "in",    "is",    "lambda", "nonlocal", "not",      "or",     "pass",
      "raise", "return", "try",   "while", "with",   "yield",    "torch",    "nn",     "F",
      "math",  "np",     "super", "range", "len",    "int",      "float",    "bool",   "tuple",
      "list",  "self",   "max",   "min",   "sum",    "abs",      "__init__", "forward"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// The source without its import statements, which are one line each or, in parentheses, several.
std::string without_imports(std::string_view source) {
  std::string kept;
  bool in_parentheses = false;
  for (size_t begin = 0; begin < source.size();) {
    const size_t end = std::min(source.find('\n', begin), source.size());
    const std::string_view line = source.substr(begin, end - begin);
    begin = end + 1;
    const bool is_import = in_parentheses || line.starts_with("import ") || line.starts_with("from ");
    if (!is_import) {
      kept.append(line).append("\n");
    } else {
      in_parentheses = (in_parentheses || line.find('(') != std::string_view::npos) &&
                       line.find(')') == std::string_view::npos;
    }
  }
  return kept;
}

}  // namespace

std::vector<std::string_view> python_tokens(std::string_view source) {
  return Lexer(source).run();
}

std::vector<std::string> structure_tokens(std::string_view problem_source) {
  const std::string source = without_imports(problem_source);
  const std::vector<std::string_view> tokens = python_tokens(source);
  std::unordered_map<std::string_view, size_t> numbers_of_names;
  std::vector<std::string> structure;
  int depth = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view token = tokens[i];
    const char c = token.front();
    if (c == '(') ++depth;
    if (c == ')') --depth;
    const bool is_attribute = i > 0 && tokens[i - 1] == ".";
    const bool is_keyword_argument = depth > 0 && i + 1 < tokens.size() && tokens[i + 1] == "=";
    const bool is_string = token.back() == '"' || token.back() == '\'';
    if (is_digit(c) || (c == '.' && token.size() > 1)) {
      structure.emplace_back("0");
    } else if (is_name_start(c) && !is_string && !is_attribute && !is_keyword_argument &&
               !is_fixed_name(token)) {
      const size_t number = numbers_of_names.emplace(token, numbers_of_names.size()).first->second;
      structure.push_back("$" + std::to_string(number));
    } else {
      structure.emplace_back(token);
    }
  }
  return structure;
}

std::string structure_hash(const std::vector<std::string>& structure) {
  Sha256 hash;
  for (const std::string& token : structure) {
    hash.update(token);
    hash.update(" ");
  }
  return hash.hex_digest();
}

}  // namespace nemoforge::dataset
