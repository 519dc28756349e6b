// Two JSON Schemas as one.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "io/json.h"

namespace nemoforge::grammar {

// Whether a keyword says nothing about which values are valid.
[[nodiscard]] bool is_annotation(std::string_view keyword);

// A schema of the values that are valid under both `a` and `b`, whose references are looked up in `root`:
// false where their types exclude each other. kUnsupported names a keyword, behind `place`, that both have
// and that is not understood.
[[nodiscard]] Result<io::Json> merge_schemas(const io::Json& a, const io::Json& b, const io::Json& root,
                                             const std::string& place);

}  // namespace nemoforge::grammar
