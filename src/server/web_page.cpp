#include "server/web_page.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/sha256.h"

namespace nemoforge::server {
namespace {

// Base64 (RFC 4648, section 4) of a SHA-256: of 32 bytes, which leave four bits and one sign of padding.
std::string base64_of_digest(const std::string& hex) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  NF_CHECK(hex.size() == 64);
  std::string text;
  uint32_t bits = 0;
  int num_bits = 0;
  for (const char digit : hex) {
    bits = (bits << 4) | static_cast<uint32_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    num_bits += 4;
    if (num_bits < 6) continue;
    num_bits -= 6;
    text += kAlphabet[(bits >> num_bits) & 63];
  }
  text += kAlphabet[(bits << (6 - num_bits)) & 63];
  return text + "=";
}

// The source expression of the one element `tag` of the page: browsers hash what stands between its tags.
std::string hash_of(std::string_view tag) {
  const std::string_view page = web_page();
  const std::string opening = fmt::format("<{}>", tag);
  const size_t begin = page.find(opening);
  const size_t end = page.find(fmt::format("</{}>", tag));
  NF_CHECK(begin != std::string_view::npos && end != std::string_view::npos) << opening;
  const std::string_view text = page.substr(begin + opening.size(), end - begin - opening.size());
  return fmt::format("'sha256-{}'", base64_of_digest(sha256_hex(text)));
}

}  // namespace

const std::string& web_page_policy() {
  static const std::string policy = fmt::format(
      "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; "
      "form-action 'none'; frame-ancestors 'none'",
      hash_of("script"), hash_of("style"));
  return policy;
}

}  // namespace nemoforge::server
