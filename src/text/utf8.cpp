#include "text/utf8.h"

#include <array>
#include <cstdint>
#include <cstring>

namespace nemoforge::text {
namespace {

// What may follow a lead byte: the code point's length and the range of its second byte (Unicode table 3-7);
// every later byte is 80..BF.
struct Lead {
  std::uint8_t num_bytes = 0;  // 0: no code point begins with this byte
  std::uint8_t second_min = 0x80;
  std::uint8_t second_max = 0xBF;
};

constexpr std::array<Lead, 256> make_leads() {
  std::array<Lead, 256> leads{};
  for (size_t byte = 0; byte < 0x80; ++byte) leads[byte].num_bytes = 1;
  for (size_t byte = 0xC2; byte <= 0xDF; ++byte) leads[byte].num_bytes = 2;
  for (size_t byte = 0xE0; byte <= 0xEF; ++byte) leads[byte].num_bytes = 3;
  for (size_t byte = 0xF0; byte <= 0xF4; ++byte) leads[byte].num_bytes = 4;
  leads[0xE0].second_min = 0xA0;  // no overlong forms
  leads[0xED].second_max = 0x9F;  // no surrogates
  leads[0xF0].second_min = 0x90;
  leads[0xF4].second_max = 0x8F;  // nothing above U+10FFFF
  return leads;
}

constexpr std::array<Lead, 256> kLeads = make_leads();

// How many bytes at text[pos] agree with a well-formed code point (at least 1), and whether they are all of
// it.
struct Subpart {
  int num_bytes;
  bool complete;
};

Subpart scan_subpart(std::string_view text, size_t pos) {
  const Lead lead = kLeads[static_cast<std::uint8_t>(text[pos])];
  if (lead.num_bytes < 2) return {1, lead.num_bytes == 1};
  int num_bytes = 1;
  for (; num_bytes < lead.num_bytes; ++num_bytes) {
    const size_t at = pos + static_cast<size_t>(num_bytes);
    if (at >= text.size()) return {num_bytes, false};
    const auto byte = static_cast<std::uint8_t>(text[at]);
    const bool first_trail = num_bytes == 1;
    if (byte < (first_trail ? lead.second_min : 0x80) || byte > (first_trail ? lead.second_max : 0xBF)) {
      return {num_bytes, false};
    }
  }
  return {num_bytes, true};
}

}  // namespace

CodePoint decode_code_point(std::string_view text, size_t pos) {
  const auto lead = static_cast<std::uint8_t>(text[pos]);
  if (lead < 0x80) return {lead, 1, true};
  const Subpart subpart = scan_subpart(text, pos);
  if (!subpart.complete) return {kReplacementCharacter, subpart.num_bytes, false};
  char32_t value = lead & (0x7Fu >> subpart.num_bytes);
  for (int i = 1; i < subpart.num_bytes; ++i) {
    value = value << 6 | (static_cast<std::uint8_t>(text[pos + static_cast<size_t>(i)]) & 0x3Fu);
  }
  return {value, subpart.num_bytes, true};
}

void append_utf8(std::string& out, char32_t value) {
  if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) value = kReplacementCharacter;
  const auto push = [&out](char32_t byte) {
    out.push_back(static_cast<char>(static_cast<std::uint8_t>(byte)));
  };
  if (value < 0x80) {
    push(value);
  } else if (value < 0x800) {
    push(0xC0 | value >> 6);
    push(0x80 | (value & 0x3F));
  } else if (value < 0x10000) {
    push(0xE0 | value >> 12);
    push(0x80 | (value >> 6 & 0x3F));
    push(0x80 | (value & 0x3F));
  } else {
    push(0xF0 | value >> 18);
    push(0x80 | (value >> 12 & 0x3F));
    push(0x80 | (value >> 6 & 0x3F));
    push(0x80 | (value & 0x3F));
  }
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    // Eight ASCII bytes at a time: most of what we read is source code.
    std::uint64_t word = 0;
    if (text.size() - pos >= sizeof word) {
      std::memcpy(&word, text.data() + pos, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        pos += sizeof word;
        continue;
      }
    }
    const Subpart subpart = scan_subpart(text, pos);
    if (!subpart.complete) return pos;
    pos += static_cast<size_t>(subpart.num_bytes);
  }
  return pos;
}

std::string repair_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    out.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) break;
    append_utf8(out, kReplacementCharacter);
    text.remove_prefix(static_cast<size_t>(scan_subpart(text, 0).num_bytes));
  }
  return out;
}

size_t incomplete_utf8_suffix(std::string_view text) {
  for (size_t num_bytes = 1; num_bytes <= 3 && num_bytes <= text.size(); ++num_bytes) {
    const size_t pos = text.size() - num_bytes;
    if ((static_cast<std::uint8_t>(text[pos]) & 0xC0) == 0x80)
      continue;  // a trail byte: the lead is before it
    const Subpart subpart = scan_subpart(text, pos);
    const bool lead_of_more = kLeads[static_cast<std::uint8_t>(text[pos])].num_bytes > num_bytes;
    return lead_of_more && static_cast<size_t>(subpart.num_bytes) == num_bytes ? num_bytes : 0;
  }
  return 0;
}

size_t count_code_points(std::string_view text) {
  size_t count = 0;
  for (size_t pos = 0; pos < text.size(); ++count) {
    pos += static_cast<size_t>(scan_subpart(text, pos).num_bytes);
  }
  return count;
}

}  // namespace nemoforge::text
