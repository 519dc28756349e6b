// What a problem asks, whatever it is called and however it is written down: for telling problems apart.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nemoforge::dataset {

// The problem's tokens (python_tokens.h) with what can be changed without changing the problem made equal:
// numbers; names of variables, classes, functions and parameters (numbered in the order of appearance; not
// attributes and keyword arguments); the names under which modules are imported; annotations of functions;
// the quotes of strings; trailing commas; the arguments of super. Problems of equal structure differ in
// shapes and constants at most.
[[nodiscard]] std::vector<std::string> structure_tokens(std::string_view problem_source);

// SHA-256 of a structure.
[[nodiscard]] std::string structure_hash(const std::vector<std::string>& structure);

}  // namespace nemoforge::dataset
