// Python's `text % arguments`.
#pragma once

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace nemoforge::text::jinja {

// `arguments` is a tuple of values, a dict for %(name)s, or the one value.
[[nodiscard]] Result<Value> format_printf(Runtime& runtime, const Value& format, const Value& arguments);

// The C forms %f, %e and %g with a bounded precision; `flags` is any of "#+- ".
[[nodiscard]] Result<std::string> format_c_float(double value, char type, int64_t precision,
                                                 std::string_view flags);

// Digits of |value| in base 2, 8, 10 or 16.
[[nodiscard]] std::string integer_digits(Int value, int base, bool upper);

}  // namespace nemoforge::text::jinja
