// A flag whose values are names.
#pragma once

#include <map>
#include <string>

#include <CLI/CLI.hpp>

namespace nemoforge::cli {

// Takes one of the names, and says so in --help: CLI11's own text shows the enumerators' numbers.
template <typename Enum>
CLI::CheckedTransformer one_of(const std::map<std::string, Enum>& values) {
  std::string names;
  for (const auto& [name, value] : values) names += (names.empty() ? "" : ",") + name;
  CLI::CheckedTransformer transformer(values);
  transformer.description("{" + names + "}");
  return transformer;
}

}  // namespace nemoforge::cli
