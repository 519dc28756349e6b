// The text of a tool's argument, which stands between <parameter=name> and </parameter> without quotes.
#pragma once

#include <string_view>

#include "grammar/expression.h"
#include "grammar/grammar.h"

namespace nemoforge::grammar {

// Any text that nothing ends but the closing tag behind it: it holds neither </parameter> nor </tool_call>,
// and no line of it begins with <parameter=. Its rules are added to `builder`.
[[nodiscard]] Expr add_tool_text(GrammarBuilder& builder, bool may_be_empty);

// Whether `text` is such.
[[nodiscard]] bool is_tool_text(std::string_view text);

}  // namespace nemoforge::grammar
