#include "text/tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "text/utf8.h"

namespace nemoforge::text {
namespace {

constexpr size_t kNumSpellings = 0x144;  // the largest code point of the alphabet is U+0143

// Bytes that are printable in Latin-1 spell themselves; the other 68, in order, are U+0100 upwards.
constexpr bool spells_itself(size_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> code_point_of_byte{};
  std::array<std::int16_t, kNumSpellings> byte_of_code_point{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte_of_code_point.fill(-1);
  char32_t next = 0x100;
  for (size_t byte = 0; byte < 256; ++byte) {
    const char32_t code_point = spells_itself(byte) ? static_cast<char32_t>(byte) : next++;
    alphabet.code_point_of_byte[byte] = code_point;
    alphabet.byte_of_code_point[code_point] = static_cast<std::int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::optional<std::string> bytes_of_spelling(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (size_t pos = 0; pos < token.size();) {
    const CodePoint code_point = decode_code_point(token, pos);
    if (code_point.value >= kNumSpellings || kAlphabet.byte_of_code_point[code_point.value] < 0) return {};
    bytes.push_back(static_cast<char>(kAlphabet.byte_of_code_point[code_point.value]));
    pos += static_cast<size_t>(code_point.num_bytes);
  }
  return bytes;
}

std::string spelling_of_bytes(std::string_view bytes) {
  std::string spelling;
  for (const char byte : bytes) {
    append_utf8(spelling, kAlphabet.code_point_of_byte[static_cast<std::uint8_t>(byte)]);
  }
  return spelling;
}

}  // namespace nemoforge::text
