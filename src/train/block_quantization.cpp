#include "train/block_quantization.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"

namespace nemoforge::train {
namespace {

constexpr int kNumDecades = 7;

}  // namespace

const DynamicCode& DynamicCode::with_sign() {
  static const DynamicCode code(true);
  return code;
}

const DynamicCode& DynamicCode::without_sign() {
  static const DynamicCode code(false);
  return code;
}

DynamicCode::DynamicCode(bool has_sign) : has_sign_(has_sign) {
  std::vector<float> values = {0, 1};
  for (int decade = 0; decade < kNumDecades; ++decade) {
    // The sign takes a bit from the fraction.
    const int num_parts = 1 << (has_sign ? decade : decade + 1);
    const double top = std::pow(10.0, decade - (kNumDecades - 1));
    for (int part = 0; part < num_parts; ++part) {
      const double middle = 0.1 + 0.9 * (part + 0.5) / num_parts;
      values.push_back(static_cast<float>(top * middle));
      if (has_sign) values.push_back(static_cast<float>(-top * middle));
    }
  }
  NF_CHECK(values.size() == values_.size()) << values.size();
  std::sort(values.begin(), values.end());
  std::copy(values.begin(), values.end(), values_.begin());
  for (size_t i = 0; i < midpoints_.size(); ++i) midpoints_[i] = 0.5f * (values_[i] + values_[i + 1]);
  zero_ = static_cast<uint8_t>(std::find(values_.begin(), values_.end(), 0.0f) - values_.begin());
}

uint8_t DynamicCode::nearest(float value) const {
  return static_cast<uint8_t>(std::upper_bound(midpoints_.begin(), midpoints_.end(), value) -
                              midpoints_.begin());
}

void DynamicCode::decode(std::span<const uint8_t> codes, float absmax, std::span<float> values) const {
  for (size_t i = 0; i < codes.size(); ++i) values[i] = absmax * values_[codes[i]];
}

float DynamicCode::encode(std::span<const float> values, std::span<uint8_t> codes) const {
  float absmax = 0;
  for (const float value : values) absmax = std::max(absmax, std::abs(value));
  if (absmax == 0) {
    std::fill(codes.begin(), codes.end(), zero_);
    return 0;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    // A quotient: 1 / absmax is infinite where absmax is subnormal.
    const uint8_t code = nearest(values[i] / absmax);
    const bool vanishes = !has_sign_ && code == zero_ && values[i] > 0;
    codes[i] = vanishes ? static_cast<uint8_t>(zero_ + 1) : code;
  }
  return absmax;
}

}  // namespace nemoforge::train
