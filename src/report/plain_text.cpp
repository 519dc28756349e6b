#include "report/plain_text.h"

#include "text/utf8.h"

namespace nemoforge::report {
namespace {

bool is_harmless(char32_t c) {
  const bool is_control = c < 0x20 || (c >= 0x7F && c < 0xA0);
  const bool is_line_break = c == 0x2028 || c == 0x2029;
  const bool changes_direction = c == 0x200E || c == 0x200F || c == 0x061C || (c >= 0x202A && c <= 0x202E) ||
                                 (c >= 0x2066 && c <= 0x2069);
  return !is_control && !is_line_break && !changes_direction;
}

}  // namespace

std::string plain_text(std::string_view text, size_t max_code_points) {
  std::string plain;
  size_t num_code_points = 0;
  for (size_t pos = 0; pos < text.size(); ++num_code_points) {
    if (num_code_points == max_code_points) return plain + "…";
    const text::CodePoint point = text::decode_code_point(text, pos);
    text::append_utf8(plain, is_harmless(point.value) ? point.value : text::kReplacementCharacter);
    pos += static_cast<size_t>(point.num_bytes);
  }
  return plain;
}

std::string html_text(std::string_view text, size_t max_code_points) {
  std::string html;
  for (const char c : plain_text(text, max_code_points)) {
    switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      case '\'':
        html += "&#39;";
        break;
      default:
        html += c;
    }
  }
  return html;
}

}  // namespace nemoforge::report
