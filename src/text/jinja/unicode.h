// Python's view of text: strings as sequences of code points (kept here as UTF-8), with the character
// properties and case mappings of CPython 3.11 (Unicode 14; unicode_tables.inc is generated from it).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/utf8.h"

namespace nemoforge::text::jinja {

// The code point that begins at `pos`, which is moved past it. The text must be valid UTF-8 and pos inside
// it.
[[nodiscard]] char32_t next_code_point(std::string_view text, size_t& pos);

// The functions here want well-formed UTF-8, as the lexer and the JSON parser ensure (text/utf8.h checks).
[[nodiscard]] bool is_ascii(std::string_view text);
[[nodiscard]] int64_t code_point_length(std::string_view text);

// The byte offset of the code point with this index (0 ... count).
[[nodiscard]] size_t byte_offset(std::string_view text, int64_t code_point_idx);

[[nodiscard]] bool is_space(char32_t c);
[[nodiscard]] bool is_line_break(char32_t c);
[[nodiscard]] bool is_alphabetic(char32_t c);
[[nodiscard]] bool is_decimal(char32_t c);
[[nodiscard]] bool is_digit(char32_t c);
[[nodiscard]] bool is_numeric(char32_t c);
[[nodiscard]] bool is_alphanumeric(char32_t c);
[[nodiscard]] bool is_lowercase(char32_t c);
[[nodiscard]] bool is_uppercase(char32_t c);
[[nodiscard]] bool is_titlecase(char32_t c);
[[nodiscard]] bool is_printable(char32_t c);

// str.upper, lower, title, capitalize, swapcase with the full mappings (ß -> SS, final sigma).
[[nodiscard]] std::string to_upper(std::string_view text);
[[nodiscard]] std::string to_lower(std::string_view text);
[[nodiscard]] std::string to_title(std::string_view text);
[[nodiscard]] std::string capitalize(std::string_view text);
[[nodiscard]] std::string swap_case(std::string_view text);

// str.strip and its one-sided forms; without `chars`, white space.
enum class Side { kLeft, kRight, kBoth };
[[nodiscard]] std::string_view strip(std::string_view text, Side side,
                                     std::optional<std::string_view> chars = std::nullopt);

// The first occurrence of `needle` at or after `from`, in time linear in the lengths (std::string_view::find
// is not); npos where there is none.
[[nodiscard]] size_t find_linear(std::string_view text, std::string_view needle, size_t from = 0);

}  // namespace nemoforge::text::jinja
