#include "train/block_quantization.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "base/rng.h"

namespace nemoforge::train {
namespace {

TEST(DynamicCode, has_the_values_of_the_paper) {
  const auto& with = DynamicCode::with_sign().values();
  const auto& without = DynamicCode::without_sign().values();
  for (const auto* values : {&with, &without}) {
    EXPECT_TRUE(std::is_sorted(values->begin(), values->end()));
    EXPECT_EQ(std::adjacent_find(values->begin(), values->end()), values->end());
    EXPECT_EQ(values->back(), 1.0f);
    EXPECT_EQ(std::count(values->begin(), values->end(), 0.0f), 1);
  }
  // The ends and the smallest above 0, worked out by hand from the definition of bitsandbytes'
  // create_dynamic_map: means of neighbouring tenths times powers of ten.
  EXPECT_FLOAT_EQ(with.front(), -0.99296875f);
  EXPECT_FLOAT_EQ(with[128], 5.5e-7f);
  EXPECT_EQ(with[127], 0.0f);
  EXPECT_FLOAT_EQ(without[1], 3.25e-7f);
  EXPECT_FLOAT_EQ(without[254], 0.996484375f);
}

TEST(DynamicCode, codes_are_the_nearest_and_errors_are_of_the_steps_between_them) {
  Rng rng(31);
  for (const auto* code : {&DynamicCode::with_sign(), &DynamicCode::without_sign()}) {
    const bool has_sign = code == &DynamicCode::with_sign();
    std::vector<float> values(256);
    for (float& value : values) {
      // Over many decades, as moments are.
      value = static_cast<float>(rng.normal() * std::pow(10.0, -4 * rng.uniform()));
      if (!has_sign) value = std::abs(value);
    }
    std::vector<uint8_t> codes(values.size());
    const float absmax = code->encode(values, codes);
    std::vector<float> decoded(values.size());
    code->decode(codes, absmax, decoded);
    for (size_t i = 0; i < values.size(); ++i) {
      for (const float other : code->values()) {
        ASSERT_LE(std::abs(decoded[i] - values[i]), std::abs(absmax * other - values[i]) + 1e-6f * absmax);
      }
    }
  }
}

TEST(DynamicCode, a_second_moment_does_not_vanish) {
  const std::vector<float> values = {1, 1e-12f, 0};
  std::vector<uint8_t> codes(3);
  std::vector<float> decoded(3);
  const DynamicCode& code = DynamicCode::without_sign();
  code.decode(codes, code.encode(values, codes), decoded);
  EXPECT_EQ(decoded[0], 1.0f);
  EXPECT_GT(decoded[1], 0.0f);
  EXPECT_EQ(decoded[2], 0.0f);
}

TEST(DynamicCode, blocks_of_zeros_and_of_subnormal_numbers) {
  for (const float tiny : {0.0f, 1e-42f}) {
    const std::vector<float> values = {tiny, -tiny, 0};
    std::vector<uint8_t> codes(3);
    std::vector<float> decoded(3);
    const DynamicCode& code = DynamicCode::with_sign();
    code.decode(codes, code.encode(values, codes), decoded);
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(decoded[i], values[i], 0.01f * tiny + 1e-44f);
  }
}

}  // namespace
}  // namespace nemoforge::train
