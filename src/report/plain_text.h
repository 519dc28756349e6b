// Making text of unknown origin (names of models and problems, errors) harmless where it is shown.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nemoforge::report {

// One line of well-formed UTF-8 for a terminal: control characters, line breaks and what changes the
// direction of writing become U+FFFD; what is longer than max_code_points ends in "…".
[[nodiscard]] std::string plain_text(std::string_view text, size_t max_code_points = 200);

// plain_text with the characters escaped that mean something in HTML's text and quoted attributes.
[[nodiscard]] std::string html_text(std::string_view text, size_t max_code_points = 200);

}  // namespace nemoforge::report
