#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/tokenizer/unicode_classes.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <pcre2.h>

#include "base/check.h"
#include "text/tokenizer/newer_code_points.h"
#include "text/utf8.h"

namespace nemoforge::text {
namespace {

// The last code point of a text that is not empty.
std::string_view last_code_point(std::string_view text) {
  size_t pos = text.size() - 1;
  while (pos > 0 && (static_cast<std::uint8_t>(text[pos]) & 0xC0) == 0x80) --pos;
  return text.substr(pos);
}

// UTS 18 annex C, compatibility property "word".
constexpr std::string_view kWordCharacter = R"(\A[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])";

bool is_word_character(std::string_view code_point) {
  const auto first = static_cast<std::uint8_t>(code_point.front());
  if (first < 0x80) {
    return (first >= '0' && first <= '9') || (first >= 'A' && first <= 'Z') ||
           (first >= 'a' && first <= 'z') || first == '_';
  }
  static const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> regex(
      [] {
        int code_number = 0;
        PCRE2_SIZE offset = 0;
        return pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kWordCharacter.data()), kWordCharacter.size(),
                             PCRE2_UTF | PCRE2_UCP, &code_number, &offset, nullptr);
      }(),
      &pcre2_code_free);
  NF_CHECK(regex != nullptr) << "PCRE2 older than 10.40 has no \\p{Alphabetic}";
  const std::optional<std::string> older = with_older_code_points(code_point);
  if (older) code_point = *older;
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  NF_CHECK(data != nullptr) << "out of memory";
  return pcre2_match(regex.get(), reinterpret_cast<PCRE2_SPTR>(code_point.data()), code_point.size(), 0,
                     PCRE2_NO_UTF_CHECK, data.get(), nullptr) >= 0;
}

}  // namespace

bool is_white_space(char32_t value) {
  return (value >= 0x09 && value <= 0x0D) || value == 0x20 || value == 0x85 || value == 0xA0 ||
         value == 0x1680 || (value >= 0x2000 && value <= 0x200A) || value == 0x2028 || value == 0x2029 ||
         value == 0x202F || value == 0x205F || value == 0x3000;
}

size_t leading_white_space(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    const CodePoint code_point = decode_code_point(text, pos);
    if (!is_white_space(code_point.value)) break;
    pos += static_cast<size_t>(code_point.num_bytes);
  }
  return pos;
}

size_t trailing_white_space(std::string_view text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view last = last_code_point(rest);
    if (!is_white_space(decode_code_point(last, 0).value)) break;
    rest.remove_suffix(last.size());
  }
  return text.size() - rest.size();
}

bool begins_with_word_character(std::string_view text) {
  if (text.empty()) return false;
  return is_word_character(text.substr(0, static_cast<size_t>(decode_code_point(text, 0).num_bytes)));
}

bool ends_with_word_character(std::string_view text) {
  return !text.empty() && is_word_character(last_code_point(text));
}

}  // namespace nemoforge::text
