// The page at "/": a chat with the server's own API, one file, nothing loaded from elsewhere.
#pragma once

#include <string>
#include <string_view>

namespace nemoforge::server {

// The bytes of web/index.html, put into the program when it is built.
[[nodiscard]] std::string_view web_page();

// The Content-Security-Policy that lets the page's own style and script run, by their hashes, and nothing
// else.
[[nodiscard]] const std::string& web_page_policy();

}  // namespace nemoforge::server
