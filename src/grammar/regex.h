// Regular expressions as expressions of a grammar.
#pragma once

#include <string_view>

#include "base/result.h"
#include "grammar/expression.h"

namespace nemoforge::grammar {

enum class RegexTarget {
  kText,            // the pattern matches the whole text
  kSearch,          // the pattern matches somewhere in the text, as JSON Schema has it
  kJsonString,      // the same, the text being the inside of a JSON string
  kToolJsonString,  // the same within a tool's argument: < is written as an escape
  kToolText,        // the same, the text being a tool's argument: without <, so that no tag ends it
};

// The language is from_regex's (grammar.h). kInvalidArgument and kUnsupported name the construct and its
// place.
[[nodiscard]] Result<Expr> parse_regex(std::string_view pattern, RegexTarget target);

// One code point of `set` inside a JSON string, escaped where JSON wants it, and < where `escape_less_than`.
// Control characters without a short escape are left out.
[[nodiscard]] Expr json_string_character(const CodePointSet& set, bool escape_less_than = false);

// The one code point at text[pos]; `pos` moves behind it. kInvalidArgument where it is not UTF-8.
[[nodiscard]] Result<char32_t> take_code_point(std::string_view text, size_t& pos);

}  // namespace nemoforge::grammar
