// The two character classes that added tokens look at (Unicode's White_Space, and the word characters of UTS
// 18), at the ends of well-formed UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace nemoforge::text {

[[nodiscard]] bool is_white_space(char32_t value);

// The bytes of white space at the beginning and at the end of `text`.
[[nodiscard]] size_t leading_white_space(std::string_view text);
[[nodiscard]] size_t trailing_white_space(std::string_view text);

// Letters, marks, decimal digits, connector punctuation and joiners; false for an empty text.
[[nodiscard]] bool begins_with_word_character(std::string_view text);
[[nodiscard]] bool ends_with_word_character(std::string_view text);

}  // namespace nemoforge::text
