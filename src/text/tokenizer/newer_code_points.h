// Keeps the regex library's Unicode tables out of what a tokenizer does: the tokenizers package knows Unicode
// 16, Debian 12's PCRE2 knows Unicode 14, and a code point that one calls a letter and the other unassigned
// would be split differently.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nemoforge::text {

// `text` (well-formed UTF-8) with every code point that PCRE2 classes otherwise than Unicode 16 replaced by
// an old code point of the same general category and as many bytes, so that what matches where is what
// Unicode 16 says and offsets stay the same; nullopt where there is none to replace.
[[nodiscard]] std::optional<std::string> with_older_code_points(std::string_view text);

}  // namespace nemoforge::text
