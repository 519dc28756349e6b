#include "dataset/problem_structure.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <unordered_map>

#include "base/sha256.h"
#include "dataset/python_tokens.h"

namespace nemoforge::dataset {
namespace {

using Tokens = std::vector<std::string_view>;

// What an imported name stands for: "F" for torch . nn . functional.
using Imports = std::unordered_map<std::string_view, std::vector<std::string_view>>;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name(std::string_view token) {
  const char c = token.front();
  const bool is_string = token.back() == '"' || token.back() == '\'';
  return !is_string && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                        static_cast<unsigned char>(c) >= 0x80);
}
bool is_string(std::string_view token) {
  return token.front() == '"' || token.back() == '"' || token.front() == '\'' || token.back() == '\'';
}
bool opens(std::string_view token) {
  return token == "(" || token == "[" || token == "{";
}
bool closes(std::string_view token) {
  return token == ")" || token == "]" || token == "}";
}

// Names of the language that mean the same in every problem.
bool is_fixed_name(std::string_view name) {
  constexpr std::array<std::string_view, 47> kNames = {
      "False", "None", "True",   "and",    "as",    "assert",   "break",  "class",    "continue", "def",
      "del",   "elif", "else",   "except", "for",   "from",     "if",     "finally",  "global",   "import",
      "in",    "is",   "lambda", "not",    "or",    "pass",     "raise",  "nonlocal", "return",   "try",
      "while", "with", "yield",  "super",  "range", "len",      "int",    "float",    "bool",     "tuple",
      "list",  "max",  "min",    "sum",    "abs",   "__init__", "forward"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// Reads "torch . nn" from `pos` on, which is left behind it.
std::vector<std::string_view> take_dotted_name(const Tokens& tokens, size_t& pos) {
  std::vector<std::string_view> name;
  while (pos < tokens.size() && (tokens[pos] == "." || is_name(tokens[pos]))) {
    const bool is_next = name.empty() || tokens[pos] == "." || name.back() == ".";
    if (!is_next || tokens[pos] == "import" || tokens[pos] == "as") break;
    name.push_back(tokens[pos++]);
  }
  return name;
}

// The names that one import statement brings.
void add_imports(const Tokens& statement, Imports& imports) {
  size_t pos = 1;
  std::vector<std::string_view> prefix;
  if (statement.front() == "from") {
    prefix = take_dotted_name(statement, pos);
    prefix.emplace_back(".");
    ++pos;  // "import"
  }
  while (pos < statement.size()) {
    if (!is_name(statement[pos])) {
      ++pos;  // a comma or a parenthesis
      continue;
    }
    const std::vector<std::string_view> name = take_dotted_name(statement, pos);
    if (name.empty()) return;
    std::vector<std::string_view> path = prefix;
    if (pos + 1 < statement.size() && statement[pos] == "as") {
      path.insert(path.end(), name.begin(), name.end());
      imports[statement[pos + 1]] = std::move(path);
      pos += 2;
    } else {
      path.push_back(name.front());  // "import torch.nn" brings torch
      imports[name.front()] = std::move(path);
    }
  }
}

// A source without its import statements (one line each or, in parentheses, several), and what they bring.
struct Parts {
  Tokens tokens;
  Imports imports;
};

// `kept` keeps the text that the tokens are views of.
Parts without_imports(std::string_view source, std::string& kept) {
  Parts parts;
  for (size_t begin = 0; begin < source.size();) {
    size_t end = std::min(source.find('\n', begin), source.size());
    std::string_view line = source.substr(begin, end - begin);
    if (!line.starts_with("import ") && !line.starts_with("from ")) {
      kept.append(line).append("\n");
      begin = end + 1;
      continue;
    }
    if (line.find('(') != std::string_view::npos) {
      end = std::min(source.find(')', begin), source.size());
      end = std::min(source.find('\n', end), source.size());
    }
    const Tokens statement = python_tokens(source.substr(begin, end - begin));
    if (!statement.empty()) add_imports(statement, parts.imports);
    begin = end + 1;
  }
  parts.tokens = python_tokens(kept);
  return parts;
}

// Makes a structure of a source's tokens, from left to right.
class Structure {
 public:
  explicit Structure(const Parts& parts) : tokens_(parts.tokens), imports_(parts.imports) {}

  std::vector<std::string> run() {
    while (pos_ < tokens_.size()) step();
    return std::move(structure_);
  }

 private:
  void step() {
    const std::string_view token = tokens_[pos_];
    if (token == "def" && pos_ + 2 < tokens_.size() && tokens_[pos_ + 2] == "(") {
      take_signature();
      return;
    }
    if (opens(token)) ++depth_;
    if (closes(token)) --depth_;
    const bool is_trailing_comma = token == "," && pos_ + 1 < tokens_.size() && closes(tokens_[pos_ + 1]);
    const bool is_keyword_argument =
        depth_ > 0 && is_next("=") && !(pos_ + 2 < tokens_.size() && tokens_[pos_ + 2] == "=");
    const bool is_attribute = pos_ > 0 && tokens_[pos_ - 1] == ".";
    ++pos_;
    if (is_trailing_comma) return;
    if (is_keyword_argument || is_attribute) {
      structure_.emplace_back(token);
    } else {
      add(token);
    }
    if (token == "super" && pos_ < tokens_.size() && tokens_[pos_] == "(") {
      skip_to_closing();
      structure_.emplace_back("()");
    }
  }

  [[nodiscard]] bool is_next(std::string_view token) const {
    return pos_ + 1 < tokens_.size() && tokens_[pos_ + 1] == token;
  }

  // "def name(parameters) -> type": without the types.
  void take_signature() {
    add(tokens_[pos_]);
    add(tokens_[pos_ + 1]);
    structure_.emplace_back("(");
    pos_ += 3;
    int depth = 1;
    bool in_default = false;
    bool in_type = false;
    for (; pos_ < tokens_.size() && depth > 0; ++pos_) {
      const std::string_view token = tokens_[pos_];
      if (opens(token)) ++depth;
      if (closes(token)) --depth;
      if (depth == 1 && (token == "," || token == "=")) {
        in_type = false;
        in_default = token == "=";
      }
      if (depth == 1 && token == ":" && !in_default) in_type = true;
      const bool is_trailing_comma = token == "," && pos_ + 1 < tokens_.size() && closes(tokens_[pos_ + 1]);
      if (depth == 0 || (!in_type && !is_trailing_comma)) add(token);
    }
    if (pos_ < tokens_.size() && tokens_[pos_] == "-" && is_next(">")) {
      for (; pos_ < tokens_.size() && (tokens_[pos_] != ":" || depth > 0); ++pos_) {
        if (opens(tokens_[pos_])) ++depth;
        if (closes(tokens_[pos_])) --depth;
      }
    }
  }

  // From an opening bracket to behind the one that closes it.
  void skip_to_closing() {
    int depth = 0;
    do {
      if (opens(tokens_[pos_])) ++depth;
      if (closes(tokens_[pos_])) --depth;
      ++pos_;
    } while (pos_ < tokens_.size() && depth > 0);
  }

  void add(std::string_view token) {
    if (is_digit(token.front()) || (token.front() == '.' && token.size() > 1)) {
      structure_.emplace_back("0");
    } else if (is_string(token)) {
      structure_.push_back("'" + contents_of(token));
    } else if (!is_name(token) || is_fixed_name(token)) {
      structure_.emplace_back(token);
    } else if (const auto import = imports_.find(token); import != imports_.end()) {
      structure_.insert(structure_.end(), import->second.begin(), import->second.end());
    } else {
      const size_t number = numbers_of_names_.emplace(token, numbers_of_names_.size()).first->second;
      structure_.push_back("$" + std::to_string(number));
    }
  }

  static std::string contents_of(std::string_view literal) {
    const size_t begin = std::min(literal.find_first_of("\"'"), literal.size());
    const size_t first = literal.find_first_not_of("\"'", begin);
    if (first == std::string_view::npos) return "";
    return std::string(literal.substr(first, literal.find_last_not_of("\"'") + 1 - first));
  }

  const Tokens& tokens_;
  const Imports& imports_;
  size_t pos_ = 0;
  int depth_ = 0;  // of brackets
  std::unordered_map<std::string_view, size_t> numbers_of_names_;
  std::vector<std::string> structure_;
};

}  // namespace

std::vector<std::string> structure_tokens(std::string_view problem_source) {
  std::string kept;
  const Parts parts = without_imports(problem_source, kept);
  return Structure(parts).run();
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
