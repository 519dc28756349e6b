// Reading the messages of worker processes, which may hold anything: what is missing or of another type is a
// default, never an error of ours.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include "io/json.h"

namespace nemoforge::verify {

// Reads `key` as a number, a string, ... of a message that may be a candidate's: a wrong type is the default.
template <typename T>
T get(const io::Json& object, const char* key, T fallback) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || found == object.end()) return fallback;
  if constexpr (std::is_same_v<T, std::string>) {
    return found->is_string() ? found->template get<std::string>() : fallback;
  } else if constexpr (std::is_same_v<T, bool>) {
    return found->is_boolean() ? found->template get<bool>() : fallback;
  } else {
    return found->is_number() ? found->template get<T>() : fallback;
  }
}

// The array under `key`, or an empty one.
[[nodiscard]] const io::Json& array_of(const io::Json& object, const char* key);

// Calls visit(leaf) for every tensor of a tree of arguments, in the order of their bytes.
template <typename Visit>
void for_each_tensor(io::Json& tree, const Visit& visit) {
  if (tree.contains("tensor")) return visit(tree);
  for (const char* nest : {"list", "tuple", "dict"}) {
    if (!tree.contains(nest)) continue;
    for (auto& item : tree[nest]) for_each_tensor(item, visit);
  }
}

// Bytes of each tensor of a tree of arguments.
[[nodiscard]] std::vector<int64_t> tensor_sizes(io::Json& tree);

}  // namespace nemoforge::verify
