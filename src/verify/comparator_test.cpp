#include "verify/comparator.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

ExpectedOutput expect_floats(const std::vector<double>& oracle, const std::string& dtype = "float32",
                             double tolerance = 1e-4) {
  ExpectedOutput expected;
  expected.dtype = dtype;
  expected.shape = {static_cast<int64_t>(oracle.size())};
  expected.tolerance = tolerance;
  expected.oracle = oracle;
  expected.eager = oracle;
  return expected;
}

template <typename T>
Comparison compare(const ExpectedOutput& expected, const std::vector<T>& values) {
  const auto result = compare_output(expected, std::as_bytes(std::span(values)));
  EXPECT_TRUE(result.has_value()) << result.error().to_string();
  return result ? *result : Comparison{};
}

TEST(comparator, accepts_what_rounding_explains) {
  const Comparison result = compare<float>(expect_floats({1, -2, 3}), {1.00001f, -2.0f, 3.0f});
  EXPECT_EQ(result.num_bad, 0);
  EXPECT_EQ(result.num_elements, 3);
  EXPECT_TRUE(result.kernelbench_1e4);
}

TEST(comparator, measures_against_the_size_of_the_output) {
  // rms about 1: an error of 1.5e-4 beside a value near zero is over the bound, 0.5e-4 is under it.
  EXPECT_EQ(compare<float>(expect_floats({1, -1, 1, 0}), {1, -1, 1, 1.5e-4f}).num_bad, 1);
  EXPECT_EQ(compare<float>(expect_floats({1, -1, 1, 0}), {1, -1, 1, 0.5e-4f}).num_bad, 0);
  // Zeros for outputs that are all tiny pass allclose and must not pass here.
  const Comparison zeros = compare<float>(expect_floats({1e-5, 2e-5}), {0, 0});
  EXPECT_EQ(zeros.num_bad, 2);
  EXPECT_TRUE(zeros.kernelbench_1e4);
}

TEST(comparator, nan_passes_only_for_nan) {
  const auto nan = static_cast<float>(kNan);
  const Comparison wrong = compare<float>(expect_floats({1, 2}), {1, nan});
  EXPECT_EQ(wrong.num_bad, 1);
  EXPECT_EQ(wrong.worst_idx, 1);
  EXPECT_TRUE(std::isinf(wrong.worst_ratio));
  EXPECT_EQ(compare<float>(expect_floats({1, kNan}), {1, nan}).num_bad, 0);
  EXPECT_EQ(compare<float>(expect_floats({1, kNan}), {1, 2}).num_bad, 1);
}

TEST(comparator, infinity_passes_only_for_the_same_infinity) {
  const auto inf = static_cast<float>(kInf);
  EXPECT_EQ(compare<float>(expect_floats({1, kInf, -kInf}), {1, inf, -inf}).num_bad, 0);
  EXPECT_EQ(compare<float>(expect_floats({1, kInf}), {1, -inf}).num_bad, 1);
  EXPECT_EQ(compare<float>(expect_floats({1, 2}), {1, inf}).num_bad, 1);
  EXPECT_EQ(compare<float>(expect_floats({1, kInf}), {1, 3e38f}).num_bad, 1);
}

TEST(comparator, all_zero_output_is_held_to_the_floor) {
  EXPECT_EQ(compare<float>(expect_floats({0, 0}), {0, 0}).num_bad, 0);
  EXPECT_EQ(compare<float>(expect_floats({0, 0}), {0, 1e-9f}).num_bad, 1);
}

TEST(comparator, reads_every_float_type) {
  // 1.5 and the smallest subnormal, -2 and infinity.
  EXPECT_EQ(compare<uint16_t>(expect_floats({1.5, 0x1p-24}, "float16", 2e-3), {0x3e00, 0x0001}).num_bad, 0);
  EXPECT_EQ(compare<uint16_t>(expect_floats({-2, kInf}, "float16", 2e-3), {0xc000, 0x7c00}).num_bad, 0);
  EXPECT_EQ(compare<uint16_t>(expect_floats({1.5, kNan}, "float16", 2e-3), {0x3e00, 0x7e00}).num_bad, 0);
  EXPECT_EQ(compare<uint16_t>(expect_floats({1.5, -2}, "bfloat16", 1.6e-2), {0x3fc0, 0xc000}).num_bad, 0);
  EXPECT_EQ(compare<double>(expect_floats({1, 2}, "float64", 1e-9), {1, 2 + 1e-8}).num_bad, 1);
}

TEST(comparator, integers_are_exact) {
  ExpectedOutput expected;
  expected.dtype = "int64";
  expected.floating = false;
  expected.shape = {3};
  expected.exact = {1, int64_t{1} << 60, -3};
  expected.exact_eager = {1, int64_t{1} << 60, -4};
  EXPECT_EQ(compare<int64_t>(expected, {1, int64_t{1} << 60, -3}).num_bad, 0);
  EXPECT_EQ(compare<int64_t>(expected, {1, (int64_t{1} << 60) + 1, -3}).num_bad, 1);
  // A tie that the reference breaks another way than the oracle.
  EXPECT_EQ(compare<int64_t>(expected, {1, int64_t{1} << 60, -4}).num_bad, 0);
  expected.dtype = "bool";
  expected.exact = expected.exact_eager = {1, 0, 1};
  EXPECT_EQ(compare<uint8_t>(expected, {1, 0, 0}).num_bad, 1);
}

TEST(comparator, refuses_bytes_that_do_not_fit_the_shape) {
  const std::vector<float> values{1, 2, 3};
  EXPECT_FALSE(compare_output(expect_floats({1, 2}), std::as_bytes(std::span(values))).has_value());
  ExpectedOutput wrong_shape = expect_floats({1, 2, 3});
  wrong_shape.shape = {2, 2};
  EXPECT_FALSE(compare_output(wrong_shape, std::as_bytes(std::span(values))).has_value());
}

TEST(comparator, empty_output_is_right) {
  EXPECT_EQ(compare<float>(expect_floats({}), {}).num_bad, 0);
}

TEST(comparator, half_precision_fails_the_fp32_bound) {
  std::vector<double> oracle;
  std::vector<float> rounded;
  for (int i = 0; i < 1000; ++i) {
    const double value = std::sin(i * 0.7);
    oracle.push_back(value);
    const float scaled = static_cast<float>(value);
    uint32_t bits = 0;
    std::memcpy(&bits, &scaled, 4);
    bits &= 0xFFFFE000u;  // ten bits of mantissa
    float coarse = 0;
    std::memcpy(&coarse, &bits, 4);
    rounded.push_back(coarse);
  }
  const Comparison result = compare<float>(expect_floats(oracle), rounded);
  EXPECT_GT(result.num_bad, 0);
  EXPECT_GT(result.rms_error, 1e-4);
}

}  // namespace
}  // namespace nemoforge::verify
