// Numbers between two limits, as JSON writes them.
#pragma once

#include <optional>
#include <string>

#include "grammar/expression.h"
#include "io/json.h"

namespace nemoforge::grammar {

// A decimal number in digits: no zeros before `whole` ("0" below one), none behind `fraction`.
struct Decimal {
  bool is_negative = false;
  std::string whole = "0";
  std::string fraction;
};

// The shortest digits that read as `number`, which is one.
[[nodiscard]] Decimal decimal_of(const io::Json& number);

struct Limit {
  Decimal value;
  bool is_exclusive = false;
};

struct Limits {
  std::optional<Limit> min;
  std::optional<Limit> max;
};

// What `schema` sets by minimum, maximum, exclusiveMinimum and exclusiveMaximum, the latter as numbers or, as
// in the drafts up to 4, as flags.
[[nodiscard]] Limits limits_in_schema(const io::Json& schema);

// The integers within the limits, of at most 18 digits; null where there are none.
[[nodiscard]] Expr integers_within(const Limits& limits);
// The numbers within the limits, without exponents, of at most 18 digits before the point and so many behind
// it that a double tells a number from a limit; null where there are none.
[[nodiscard]] Expr numbers_within(const Limits& limits);

}  // namespace nemoforge::grammar
