// Regular expressions as expressions of a grammar.
#pragma once

#include <string_view>

#include "base/result.h"
#include "grammar/expression.h"

namespace nemoforge::grammar {

enum class RegexTarget {
  kText,        // the pattern matches the whole text
  kJsonString,  // the text is the inside of a JSON string, in which the pattern matches somewhere (JSON
                // Schema)
};

// The language is from_regex's (grammar.h). kInvalidArgument and kUnsupported name the construct and its
// place.
[[nodiscard]] Result<Expr> parse_regex(std::string_view pattern, RegexTarget target);

// One code point of `set` inside a JSON string, escaped where JSON wants it. Control characters without a
// short escape are left out.
[[nodiscard]] Expr json_string_character(const CodePointSet& set);

// The one code point at text[pos]; `pos` moves behind it. kInvalidArgument where it is not UTF-8.
[[nodiscard]] Result<char32_t> take_code_point(std::string_view text, size_t& pos);

}  // namespace nemoforge::grammar
