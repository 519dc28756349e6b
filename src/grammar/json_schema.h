// JSON Schema as part of a larger grammar.
#pragma once

#include <string>

#include "base/result.h"
#include "grammar/expression.h"
#include "grammar/grammar.h"
#include "io/json.h"

namespace nemoforge::grammar {

// JSON that is valid under `schema`; its references are looked up in `root`. Rules are added to `builder`.
// Errors begin with `place`, and are those of from_json_schema.
[[nodiscard]] Result<Expr> add_json_schema(GrammarBuilder& builder, const io::Json& schema,
                                           const io::Json& root, const std::string& place);

}  // namespace nemoforge::grammar
