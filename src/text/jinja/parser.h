// Tokens to a tree.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/jinja/ast.h"

namespace nemoforge::text::jinja {

// Parses a template. Errors are "line N: ...": kInvalidData for a syntax error, kUnsupported for what Jinja
// has and this does not (include, import, an unknown filter), which they name.
[[nodiscard]] Result<Tree> parse(std::string_view source);

}  // namespace nemoforge::text::jinja
