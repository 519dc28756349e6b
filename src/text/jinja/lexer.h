// Templates to tokens: data, names, literals and operators, with Jinja's white-space control as transformers
// sets it (trim_blocks, lstrip_blocks, one trailing newline dropped).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja/value.h"

namespace nemoforge::text::jinja {

enum class TokenType {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  int line = 1;
  std::string text;  // data, name, operator, or the string's value
  Int integer = 0;
  double number = 0;

  [[nodiscard]] bool is_operator(std::string_view op) const {
    return type == TokenType::kOperator && text == op;
  }
  [[nodiscard]] bool is_name(std::string_view name) const { return type == TokenType::kName && text == name; }
};

// The tokens, the last of them kEnd. kInvalidData with "line N: ..." where the text is no template.
[[nodiscard]] Result<std::vector<Token>> tokenize(std::string_view source);

// The token in an error's words.
[[nodiscard]] std::string describe(const Token& token);

// The error "line N: what".
[[nodiscard]] tl::unexpected<Error> syntax_error(int line, const std::string& what);
// The error "line N: what is not supported in a chat template".
[[nodiscard]] tl::unexpected<Error> unsupported(int line, const std::string& what);

}  // namespace nemoforge::text::jinja
