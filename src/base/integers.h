// Size arithmetic whose name says what it promises.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

#include "base/check.h"

namespace nemoforge {

// Smallest q with q * divisor >= value, for value >= 0 and divisor > 0.
template <typename T>
[[nodiscard]] constexpr T ceil_div(T value, T divisor) {
  return (value + divisor - 1) / divisor;
}

// value rounded up to a multiple of `multiple`.
template <typename T>
[[nodiscard]] constexpr T round_up(T value, T multiple) {
  return ceil_div(value, multiple) * multiple;
}

// value / divisor; the remainder must be zero.
template <typename T>
[[nodiscard]] T div_exact(T value, T divisor) {
  NF_CHECK(divisor != 0 && value % divisor == 0) << value << " is not a multiple of " << divisor;
  return value / divisor;
}

// Integer conversion that must not change the value.
template <typename To, typename From>
[[nodiscard]] To narrow(From value) {
  static_assert(std::is_integral_v<To> && std::is_integral_v<From>);
  const To converted = static_cast<To>(value);
  NF_CHECK(static_cast<From>(converted) == value && ((converted < To{}) == (value < From{})))
      << value << " does not fit";
  return converted;
}

// a * b, or nothing where the product does not fit in int64_t: for sizes that come from untrusted bytes.
[[nodiscard]] inline std::optional<int64_t> checked_multiply(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

}  // namespace nemoforge
