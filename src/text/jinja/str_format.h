// Python's str.format.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja/runtime.h"

namespace nemoforge::text::jinja {

[[nodiscard]] Result<std::string> format_braces(Runtime& runtime, std::string_view format,
                                                const Arguments& arguments);

// format(value, spec).
[[nodiscard]] Result<std::string> format_value(Runtime& runtime, const Value& value, std::string_view spec);

}  // namespace nemoforge::text::jinja
