// UTF-8 at the edges of the program: what clients, files and models send is bytes, what the tokenizer, the
// template and JSON work on is well-formed UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nemoforge::text {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

// One step through a string: a code point and the bytes it takes.
struct CodePoint {
  char32_t value;  // U+FFFD where the bytes are not UTF-8
  int num_bytes;   // 1 to 4; of ill-formed bytes the maximal subpart (Unicode 3.9, "substitution of maximal
                   // subparts"), which is what Rust's from_utf8_lossy and browsers replace by one U+FFFD
  bool well_formed;
};

// The code point that begins at text[pos]; `pos` < text.size().
[[nodiscard]] CodePoint decode_code_point(std::string_view text, size_t pos);

// Appends the UTF-8 form of `value`; surrogates and values above U+10FFFF become U+FFFD.
void append_utf8(std::string& out, char32_t value);

// The length of the longest well-formed prefix of `text`.
[[nodiscard]] size_t valid_utf8_prefix(std::string_view text);

[[nodiscard]] inline bool is_valid_utf8(std::string_view text) {
  return valid_utf8_prefix(text) == text.size();
}

// `text` with each maximal ill-formed subpart replaced by U+FFFD: equal to Rust's String::from_utf8_lossy.
[[nodiscard]] std::string repair_utf8(std::string_view text);

// How many bytes at the end of `text` are the beginning of a code point whose rest may still come (0 to 3).
[[nodiscard]] size_t incomplete_utf8_suffix(std::string_view text);

// The number of code points of `text`, ill-formed subparts counted as one each (so repair_utf8(text) has as
// many).
[[nodiscard]] size_t count_code_points(std::string_view text);

}  // namespace nemoforge::text
