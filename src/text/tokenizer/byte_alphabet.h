// The byte alphabet of byte-level BPE (GPT-2's): each of the 256 bytes is spelt in tokenizer.json as one
// printable code point, so that a vocabulary of byte strings can be written as JSON strings.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nemoforge::text {

// The bytes that `token` spells; nullopt where it holds a code point outside the alphabet (as added tokens
// with a space or a line break do).
[[nodiscard]] std::optional<std::string> bytes_of_spelling(std::string_view token);

// The spelling of `bytes`, the inverse of bytes_of_spelling.
[[nodiscard]] std::string spelling_of_bytes(std::string_view bytes);

}  // namespace nemoforge::text
