// A look at a body before it is parsed.
#pragma once

#include <cstddef>
#include <string_view>

namespace nemoforge::server {

// The most keys that one object of the JSON text has (colons outside strings, by object; of a text that is no
// JSON some number). Linear in the text.
[[nodiscard]] size_t most_object_keys(std::string_view json);

}  // namespace nemoforge::server
