// Who may ask: API keys and browsers' origins.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http_exchange.h"

namespace nemoforge::server {

// Of ASCII, as HTTP compares schemes and media types.
[[nodiscard]] bool equal_ignoring_case(std::string_view a, std::string_view b);

// Bearer tokens of the Authorization header.
class ApiKeys {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys);
  // Whether the header carries one of the keys (or there are none). Compares digests, every one to its end,
  // so that the time says nothing of how much of a guess was right.
  [[nodiscard]] bool admit(std::string_view authorization) const;

 private:
  std::vector<std::string> digests_;
};

// The headers that let a page of `origin` read the answer, and send the headers that it asks for (those that
// clients are known to send where it asks for none); none where it is not among `allowed`.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> cors_headers(
    const std::vector<std::string>& allowed, const std::string& origin, const std::string& requested_headers);

// A client's request id where it is short and plain, else one of our own.
[[nodiscard]] std::string request_id(const std::string& given);

}  // namespace nemoforge::server
