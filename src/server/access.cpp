#include "server/access.h"

#include <algorithm>

#include "base/sha256.h"
#include "server/wire.h"

namespace nemoforge::server {
namespace {

// Names of header fields with commas between them, of a length that a page may want.
bool is_header_list(std::string_view text) {
  constexpr size_t kMaxLength = 2048;
  return !text.empty() && text.size() <= kMaxLength && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == ',' || c == ' ';
  });
}

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [lower](char x, char y) { return lower(x) == lower(y); });
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) digests_.push_back(sha256_hex(key));
}

bool ApiKeys::admit(std::string_view authorization) const {
  if (digests_.empty()) return true;
  constexpr std::string_view kScheme = "bearer ";  // in any case: RFC 9110, section 11.1
  if (!equal_ignoring_case(authorization.substr(0, kScheme.size()), kScheme)) return false;
  const std::string digest = sha256_hex(authorization.substr(kScheme.size()));
  unsigned num_equal = 0;
  for (const std::string& known : digests_) {
    unsigned difference = 0;
    for (size_t i = 0; i < digest.size(); ++i) difference |= static_cast<unsigned>(digest[i] ^ known[i]);
    num_equal += difference == 0 ? 1U : 0U;
  }
  return num_equal > 0;
}

std::vector<std::pair<std::string, std::string>> cors_headers(const std::vector<std::string>& allowed,
                                                              const std::string& origin,
                                                              const std::string& requested_headers) {
  if (origin.empty()) return {};
  const bool any = std::find(allowed.begin(), allowed.end(), "*") != allowed.end();
  if (!any && std::find(allowed.begin(), allowed.end(), origin) == allowed.end()) return {};
  return {
      {"Access-Control-Allow-Origin", any ? "*" : origin},
      {"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
      {"Access-Control-Allow-Headers",
       is_header_list(requested_headers) ? requested_headers : "Authorization, Content-Type, X-Request-Id"},
      {"Access-Control-Expose-Headers", "X-Request-Id"},
      {"Vary", "Origin"}};
}

std::string request_id(const std::string& given) {
  constexpr size_t kMaxLength = 128;
  const bool is_plain = std::all_of(given.begin(), given.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
  return given.empty() || given.size() > kMaxLength || !is_plain ? random_id() : given;
}

}  // namespace nemoforge::server
