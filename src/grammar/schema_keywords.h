// The keywords of JSON Schema.
#pragma once

#include <string_view>

#include "io/json.h"

namespace nemoforge::grammar {

// Whether a keyword says nothing about which values are valid.
[[nodiscard]] bool is_annotation(std::string_view keyword);

// The type whose values a keyword is about ("number" for integers too); empty where it is about any.
[[nodiscard]] std::string_view type_of_keyword(std::string_view keyword);

// `schema` without the keywords about values of types other than `type`, which do not matter to its values.
[[nodiscard]] io::Json keywords_about(const io::Json& schema, std::string_view type);

}  // namespace nemoforge::grammar
