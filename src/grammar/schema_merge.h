// Two JSON Schemas as one.
#pragma once

#include <string>

#include "base/result.h"
#include "io/json.h"

namespace nemoforge::grammar {

// A schema of the values that are valid under both `a` and `b`, whose references are looked up in `root`:
// false where their types exclude each other. kUnsupported names a keyword, behind `place`, that both have
// and that is not understood.
[[nodiscard]] Result<io::Json> merge_schemas(const io::Json& a, const io::Json& b, const io::Json& root,
                                             const std::string& place);

}  // namespace nemoforge::grammar
