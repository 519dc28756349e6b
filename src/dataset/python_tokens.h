// Python source as a sequence of tokens, for comparing programs: not a parser, and content with any text.
#pragma once

#include <string_view>
#include <vector>

namespace nemoforge::dataset {

// The tokens of `source` (views into it) without comments, white space, line breaks and strings that stand
// alone as a statement (docstrings). Two sources with the same tokens do the same but for indentation and
// line breaks. Linear in the length.
[[nodiscard]] std::vector<std::string_view> python_tokens(std::string_view source);

}  // namespace nemoforge::dataset
