// The form that a request demands of its answer: response_format, structured_outputs and the older guided_*
// fields.
#pragma once

#include <memory>

#include "base/result.h"
#include "grammar/grammar.h"
#include "io/json.h"

namespace nemoforge::server {

// The grammar of the answer; null where any text will do. response_format: {"type": "text" | "json_object"}
// or
// {"type": "json_schema", "json_schema": {"schema": ...}}; structured_outputs: an object with one of json (a
// schema, or its text), regex, choice (strings), grammar (EBNF), json_object (true), and
// disable_any_whitespace for those of JSON; guided_json, guided_regex, guided_choice, guided_grammar: the
// same, each a field of its own. kInvalidArgument (more than one of these, a wrong type, an invalid schema)
// and kUnsupported (what cannot be enforced) begin with the field's name.
[[nodiscard]] Result<std::shared_ptr<const grammar::Grammar>> read_output_format(const io::Json& body);

}  // namespace nemoforge::server
