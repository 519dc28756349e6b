#include "text/jinja/unicode.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace nemoforge::text::jinja {
namespace {

struct CodePointRange {
  uint32_t first;
  uint32_t last;
};

// Every stride-th code point of first ... last maps to itself plus delta.
struct CaseRun {
  uint32_t first;
  uint32_t last;
  uint32_t stride;
  int32_t delta;
};

// A character one of whose mappings has several characters.
struct SpecialCase {
  uint32_t code_point;
  const char* upper;
  const char* lower;
  const char* title;
};

#include "text/jinja/unicode_tables.inc"

template <size_t N>
bool contains(const CodePointRange (&ranges)[N], char32_t c) {
  const auto* after =
      std::upper_bound(std::begin(ranges), std::end(ranges), static_cast<uint32_t>(c),
                       [](uint32_t point, const CodePointRange& r) { return point < r.first; });
  return after != std::begin(ranges) && c <= std::prev(after)->last;
}

template <size_t N>
char32_t map_case(const CaseRun (&runs)[N], char32_t c) {
  const auto* after = std::upper_bound(std::begin(runs), std::end(runs), static_cast<uint32_t>(c),
                                       [](uint32_t point, const CaseRun& r) { return point < r.first; });
  if (after == std::begin(runs)) return c;
  const CaseRun& run = *std::prev(after);
  if (c > run.last || (c - run.first) % run.stride != 0) return c;
  return static_cast<char32_t>(static_cast<int64_t>(c) + run.delta);
}

const SpecialCase* find_special(char32_t c) {
  const auto* it =
      std::lower_bound(std::begin(kSpecialCases), std::end(kSpecialCases), static_cast<uint32_t>(c),
                       [](const SpecialCase& s, uint32_t point) { return s.code_point < point; });
  return it != std::end(kSpecialCases) && it->code_point == c ? it : nullptr;
}

constexpr char32_t kCapitalSigma = 0x3A3;
constexpr char32_t kSmallSigma = 0x3C3;
constexpr char32_t kFinalSigma = 0x3C2;

bool is_cased(char32_t c) {
  return is_lowercase(c) || is_uppercase(c) || is_titlecase(c);
}

void append_upper(std::string& out, char32_t c) {
  if (c < 0x80) {
    out.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : static_cast<char>(c));
  } else if (const SpecialCase* special = find_special(c)) {
    out += special->upper;
  } else {
    append_utf8(out, map_case(kToUpper, c));
  }
}

void append_title(std::string& out, char32_t c) {
  if (c < 0x80) {
    append_upper(out, c);
  } else if (const SpecialCase* special = find_special(c)) {
    out += special->title;
  } else {
    append_utf8(out, map_case(kToTitle, c));
  }
}

// A capital sigma that ends a word (a cased letter before it, none after it, case-ignorable ones skipped)
// becomes the final form.
bool is_final_sigma(std::string_view text, size_t begin, size_t end) {
  bool cased_before = false;
  for (size_t pos = begin; pos > 0;) {
    do {
      --pos;
    } while ((static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80);
    size_t copy = pos;
    const char32_t c = next_code_point(text, copy);
    if (contains(kCaseIgnorable, c)) continue;
    cased_before = is_cased(c);
    break;
  }
  if (!cased_before) return false;
  while (end < text.size()) {
    const char32_t c = next_code_point(text, end);
    if (contains(kCaseIgnorable, c)) continue;
    return !is_cased(c);
  }
  return true;
}

// `begin` and `end` are where the character lies in `text`.
void append_lower(std::string& out, char32_t c, std::string_view text, size_t begin, size_t end) {
  if (c < 0x80) {
    out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : static_cast<char>(c));
  } else if (c == kCapitalSigma) {
    append_utf8(out, is_final_sigma(text, begin, end) ? kFinalSigma : kSmallSigma);
  } else if (const SpecialCase* special = find_special(c)) {
    out += special->lower;
  } else {
    append_utf8(out, map_case(kToLower, c));
  }
}

}  // namespace

char32_t next_code_point(std::string_view text, size_t& pos) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char lead = byte(pos);
  if (lead < 0x80) {
    ++pos;
    return lead;
  }
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  char32_t c = lead & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length && pos + i < text.size(); ++i) c = (c << 6) | (byte(pos + i) & 0x3Fu);
  pos = std::min(pos + length, text.size());
  return c;
}

bool is_ascii(std::string_view text) {
  unsigned char all = 0;
  for (const char c : text) all = static_cast<unsigned char>(all | static_cast<unsigned char>(c));
  return all < 0x80;
}

int64_t code_point_length(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

size_t byte_offset(std::string_view text, int64_t code_point_idx) {
  size_t pos = 0;
  while (code_point_idx > 0 && pos < text.size()) {
    ++pos;
    while (pos < text.size() && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80) ++pos;
    --code_point_idx;
  }
  return pos;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_alphabetic(char32_t c) {
  return contains(kAlphabetic, c);
}
bool is_decimal(char32_t c) {
  return contains(kDecimal, c);
}
bool is_digit(char32_t c) {
  return contains(kDigit, c);
}
bool is_numeric(char32_t c) {
  return contains(kNumeric, c);
}
bool is_alphanumeric(char32_t c) {
  return is_alphabetic(c) || is_decimal(c) || is_digit(c) || is_numeric(c);
}
bool is_lowercase(char32_t c) {
  return contains(kLowercase, c);
}
bool is_uppercase(char32_t c) {
  return contains(kUppercase, c);
}
bool is_titlecase(char32_t c) {
  return contains(kTitlecase, c);
}
bool is_printable(char32_t c) {
  return contains(kPrintable, c);
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) append_upper(out, next_code_point(text, pos));
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t c = next_code_point(text, pos);
    append_lower(out, c, text, begin, pos);
  }
  return out;
}

std::string to_title(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool previous_is_cased = false;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t c = next_code_point(text, pos);
    if (previous_is_cased) {
      append_lower(out, c, text, begin, pos);
    } else {
      append_title(out, c);
    }
    previous_is_cased = is_cased(c);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t c = next_code_point(text, pos);
    if (begin == 0) {
      append_title(out, c);
    } else {
      append_lower(out, c, text, begin, pos);
    }
  }
  return out;
}

std::string swap_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t c = next_code_point(text, pos);
    if (is_uppercase(c)) {
      append_lower(out, c, text, begin, pos);
    } else if (is_lowercase(c)) {
      append_upper(out, c);
    } else {
      append_utf8(out, c);
    }
  }
  return out;
}

std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> chars) {
  const auto strippable = [&](size_t begin, size_t end) {
    if (chars) return chars->find(text.substr(begin, end - begin)) != std::string_view::npos;
    size_t pos = begin;
    return is_space(next_code_point(text, pos));
  };
  size_t begin = 0;
  size_t end = text.size();
  while (side != Side::kRight && begin < end) {
    size_t after = begin;
    (void)next_code_point(text, after);
    if (!strippable(begin, after)) break;
    begin = after;
  }
  while (side != Side::kLeft && begin < end) {
    size_t start = end - 1;
    while (start > begin && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    if (!strippable(start, end)) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

size_t find_linear(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

}  // namespace nemoforge::text::jinja
