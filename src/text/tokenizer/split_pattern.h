// The regular expressions of tokenizer.json are Oniguruma's (Ruby syntax); ours are PCRE2's.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace nemoforge::text {

// `pattern` in PCRE2's syntax (for UTF, UCP and MULTILINE, with LF as the line break) with the meaning it has
// in Oniguruma. kUnsupported, naming the construct and where it is, for whatever the two libraries understand
// differently and we do not translate: back references, nested classes and intersections, \w and \b, scripts.
[[nodiscard]] Result<std::string> translate_split_pattern(std::string_view pattern);

// A pattern that matches exactly `text`.
[[nodiscard]] std::string literal_split_pattern(std::string_view text);

}  // namespace nemoforge::text
