// Python literals where JSON was asked for: models trained on Python write {'a': True, 'b': None}.
#pragma once

#include <optional>
#include <string_view>

#include "io/json.h"

namespace nemoforge::text {

// The value that `text` spells as Python's ast.literal_eval reads it: None, True, False, numbers (no complex
// ones), strings (no prefixes, no triple quotes), lists, tuples and dicts whose keys are strings or numbers
// (which become strings). Nothing where it is none, nests deeper than 64, has a dict of more than 4096 keys
// or a number that is not finite.
[[nodiscard]] std::optional<io::Json> parse_python_literal(std::string_view text);

}  // namespace nemoforge::text
