// JSON Schema for those who read values: what a reference names, and whether a value breaks its schema.
#pragma once

#include <string>

#include "io/json.h"

namespace nemoforge::io {

// What `ref` ("#", "#/$defs/name") names in `root`; null where that is nothing, or not within `root`.
[[nodiscard]] const Json* find_reference(const std::string& ref, const Json& root);

// Whether nothing is found that makes `value` invalid under `schema`, whose references are looked up in
// `root`. Looked at are the type, the listed values, unions and intersections, bounds, lengths, items and
// properties, and OpenAPI's `nullable`; not patterns, formats and conditions, and not more than some 100,000
// parts of schemas. A valid value always passes.
[[nodiscard]] bool may_be_valid(const Json& value, const Json& schema, const Json& root);

}  // namespace nemoforge::io
