// Python source as a sequence of tokens, for comparing programs: not a parser, and content with any text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nemoforge::dataset {

// The tokens of `source` (views into it) without comments, white space, line breaks and strings that stand
// alone as a statement (docstrings). Two sources with the same tokens do the same but for indentation and
// line breaks. Linear in the length.
[[nodiscard]] std::vector<std::string_view> python_tokens(std::string_view source);

// What a problem asks, whatever its names, sizes and comments: its tokens with imports left out, numbers made
// equal and names (of variables, classes and functions, not of attributes and keyword arguments) numbered in
// the order of appearance. Problems of equal structure differ in shapes and constants at most.
[[nodiscard]] std::vector<std::string> structure_tokens(std::string_view problem_source);

// SHA-256 of a structure.
[[nodiscard]] std::string structure_hash(const std::vector<std::string>& structure);

}  // namespace nemoforge::dataset
