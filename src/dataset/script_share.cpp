#include "dataset/script_share.h"

#include <cstdint>

#include "text/utf8.h"

namespace nemoforge::dataset {
namespace {

bool is_latin(char32_t c) {
  const bool is_ascii_letter = (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z');
  return is_ascii_letter || (c >= 0xC0 && c <= 0x24F && c != 0xD7 && c != 0xF7) ||
         (c >= 0x1E00 && c <= 0x1EFF);
}

// Blocks of letters as Unicode 15 lays them out; punctuation inside them is too rare to matter.
bool is_of_other_script(char32_t c) {
  const bool is_alphabetic = c >= 0x400 && c <= 0x1DFF;
  const bool is_east_asian = (c >= 0x3040 && c <= 0x318F) || (c >= 0x31A0 && c <= 0x31FF) ||
                             (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0xD7A3) ||
                             (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x3FFFF);
  return is_alphabetic || is_east_asian;
}

}  // namespace

double non_latin_share(std::string_view text) {
  int64_t num_latin = 0;
  int64_t num_other = 0;
  for (size_t pos = 0; pos < text.size();) {
    const text::CodePoint point = text::decode_code_point(text, pos);
    pos += static_cast<size_t>(point.num_bytes);
    num_latin += is_latin(point.value) ? 1 : 0;
    num_other += is_of_other_script(point.value) ? 1 : 0;
  }
  const int64_t num_letters = num_latin + num_other;
  return num_letters == 0 ? 0 : static_cast<double>(num_other) / static_cast<double>(num_letters);
}

}  // namespace nemoforge::dataset
