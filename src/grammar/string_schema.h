// Strings under the keywords that a JSON Schema has for them.
#pragma once

#include <string>

#include "base/result.h"
#include "grammar/expression.h"
#include "grammar/grammar.h"
#include "io/json.h"

namespace nemoforge::grammar {

// How a string is written.
enum class StringForm {
  kJson,      // in quotes
  kToolJson,  // in quotes, within the JSON of a tool's argument: it holds no </, which might be a tag
  kToolText,  // without quotes: it is the tool's argument
};

// The rules of strings in their three forms, made where they are needed.
class Strings {
 public:
  explicit Strings(GrammarBuilder& builder) : builder_(builder) {}

  // Any string.
  [[nodiscard]] Expr any(StringForm form);
  // This string; kUnsupported where it cannot be written in that form.
  [[nodiscard]] Result<Expr> only(const std::string& text, StringForm form, const std::string& place) const;
  // A string with the pattern, format, minLength and maxLength of `schema`; kUnsupported where these cannot
  // be enforced, kInvalidArgument where they are none. A format that is not known says nothing, as JSON
  // Schema has it. Longest lengths beyond kMaxRepeat are taken as that.
  [[nodiscard]] Result<Expr> of(const io::Json& schema, StringForm form, const std::string& place);

 private:
  [[nodiscard]] Expr of_length(int32_t min, int32_t max, StringForm form);

  GrammarBuilder& builder_;
  int32_t any_[3] = {-1, -1, -1};
  int32_t character_[3] = {-1, -1, -1};
};

// `value` as JSON in a form with quotes.
[[nodiscard]] std::string json_text(const io::Json& value, StringForm form);

// The count that `schema` gives for `key`, else `fallback`; more than kMaxRepeat is kUnsupported of a least
// count, and kMaxRepeat of a greatest one.
[[nodiscard]] Result<int32_t> count_in_schema(const io::Json& schema, const char* key, int32_t fallback,
                                              const std::string& place);

}  // namespace nemoforge::grammar
