// JSON Schema as part of a larger grammar.
#pragma once

#include <string>

#include "base/result.h"
#include "grammar/expression.h"
#include "grammar/grammar.h"
#include "grammar/string_schema.h"
#include "io/json.h"

namespace nemoforge::grammar {

struct SchemaOptions {
  bool for_tool = false;    // the value is the argument of a tool: a string has no quotes there
  bool is_lenient = false;  // what cannot be enforced is left out, and no kUnsupported given
  bool is_compact = false;  // no white space between the parts of the JSON
};

// A value that is valid under `schema`; its references are looked up in `root`. Rules are added to `builder`.
// Errors begin with `place`, and are those of from_json_schema.
[[nodiscard]] Result<Expr> add_json_schema(GrammarBuilder& builder, Strings& strings, const io::Json& schema,
                                           const io::Json& root, const std::string& place,
                                           const SchemaOptions& options = {});

}  // namespace nemoforge::grammar
