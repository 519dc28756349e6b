#include "verify/comparator.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace nemoforge::verify {
namespace {

constexpr double kRmsFloor = 1e-7;

double half_to_double(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  double value = 0;
  if (exponent == 31) {
    value =
        mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  } else {
    value = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

template <typename T>
T load(std::span<const std::byte> bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

double load_float(std::string_view dtype, std::span<const std::byte> bytes, size_t index) {
  if (dtype == "float64") return load<double>(bytes, index);
  if (dtype == "float32") return load<float>(bytes, index);
  if (dtype == "float16") return half_to_double(load<uint16_t>(bytes, index));
  return std::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(bytes, index)) << 16);
}

int64_t load_integer(std::string_view dtype, std::span<const std::byte> bytes, size_t index) {
  if (dtype == "int64") return load<int64_t>(bytes, index);
  if (dtype == "int32") return load<int32_t>(bytes, index);
  if (dtype == "int16") return load<int16_t>(bytes, index);
  if (dtype == "int8") return load<int8_t>(bytes, index);
  return load<uint8_t>(bytes, index);
}

double rms_of_finite(const std::vector<double>& values) {
  double sum = 0;
  int64_t count = 0;
  for (const double value : values) {
    if (std::isfinite(value)) {
      sum += value * value;
      ++count;
    }
  }
  return std::max(count > 0 ? std::sqrt(sum / static_cast<double>(count)) : 0.0, kRmsFloor);
}

// |y - r| in units of its bound. Not finite r: 0 where y is the same, infinity elsewhere.
double error_ratio(double y, double r, double tolerance, double rms) {
  if (!std::isfinite(r)) {
    const bool same = std::isnan(r) ? std::isnan(y) : y == r;
    return same ? 0.0 : std::numeric_limits<double>::infinity();
  }
  const double ratio = std::abs(y - r) / (tolerance * (rms + std::abs(r)));
  return std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
}

bool allclose(double y, double e, double tolerance) {
  if (std::isnan(y) || std::isnan(e)) return false;
  return y == e || std::abs(y - e) <= tolerance + tolerance * std::abs(e);
}

void compare_floating(const ExpectedOutput& expected, std::span<const std::byte> bytes, Comparison& result) {
  const double rms = rms_of_finite(expected.oracle);
  double squares = 0;
  for (size_t i = 0; i < expected.oracle.size(); ++i) {
    const double y = load_float(expected.dtype, bytes, i);
    const double r = expected.oracle[i];
    const double ratio = error_ratio(y, r, expected.tolerance, rms);
    // Not "ratio > 1": a NaN must count as wrong.
    if (!(ratio <= 1.0)) ++result.num_bad;
    if (result.worst_idx < 0 || ratio > result.worst_ratio) {
      result.worst_idx = static_cast<int64_t>(i);
      result.worst_ratio = ratio;
      result.worst_value = y;
      result.worst_expected = r;
    }
    if (std::isfinite(r) && std::isfinite(y)) squares += (y - r) * (y - r);
    result.kernelbench_1e4 = result.kernelbench_1e4 && allclose(y, expected.eager[i], 1e-4);
    result.kernelbench_1e2 = result.kernelbench_1e2 && allclose(y, expected.eager[i], 1e-2);
  }
  if (!expected.oracle.empty()) {
    result.rms_error = std::sqrt(squares / static_cast<double>(expected.oracle.size())) / rms;
  }
}

void compare_integers(const ExpectedOutput& expected, std::span<const std::byte> bytes, Comparison& result) {
  for (size_t i = 0; i < expected.exact.size(); ++i) {
    const int64_t y = load_integer(expected.dtype, bytes, i);
    // The reference in its own precision may break a tie another way than the oracle does: either is right.
    if (y == expected.exact[i] || y == expected.exact_eager[i]) continue;
    if (result.num_bad++ == 0) {
      result.worst_idx = static_cast<int64_t>(i);
      result.worst_ratio = std::numeric_limits<double>::infinity();
      result.worst_value = static_cast<double>(y);
      result.worst_expected = static_cast<double>(expected.exact[i]);
    }
    result.kernelbench_1e4 = result.kernelbench_1e2 = false;
  }
}

}  // namespace

int64_t element_bytes(std::string_view dtype) {
  if (dtype == "float64" || dtype == "int64") return 8;
  if (dtype == "float32" || dtype == "int32") return 4;
  if (dtype == "float16" || dtype == "bfloat16" || dtype == "int16") return 2;
  if (dtype == "int8" || dtype == "uint8" || dtype == "bool") return 1;
  return 0;
}

Result<Comparison> compare_output(const ExpectedOutput& expected, std::span<const std::byte> bytes) {
  Comparison result;
  const size_t count = expected.floating ? expected.oracle.size() : expected.exact.size();
  const size_t eager_count = expected.floating ? expected.eager.size() : expected.exact_eager.size();
  int64_t elements = 1;
  for (const int64_t size : expected.shape) elements *= size;
  if (elements != static_cast<int64_t>(count) || eager_count != count ||
      bytes.size() != count * static_cast<size_t>(element_bytes(expected.dtype))) {
    return error(ErrorCode::kInvalidData, "an output of " + std::to_string(elements) + " elements of " +
                                              expected.dtype + " came as " + std::to_string(bytes.size()) +
                                              " bytes, its oracle as " + std::to_string(count) + " values");
  }
  result.num_elements = elements;
  result.tolerance = expected.tolerance;
  if (expected.floating) {
    compare_floating(expected, bytes, result);
  } else {
    compare_integers(expected, bytes, result);
  }
  return result;
}

bool same_bytes(std::span<const std::byte> first, std::span<const std::byte> second) {
  return first.size() == second.size() && std::memcmp(first.data(), second.data(), first.size()) == 0;
}

}  // namespace nemoforge::verify
