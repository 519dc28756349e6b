// Block-wise dynamic quantization to eight bits, for the moments of an optimizer.
//
// Source: Dettmers et al., "8-bit optimizers via block-wise quantization" (ICLR 2022), sections 2.1 and 2.2.
// Each block is divided by its largest magnitude and rounded to the nearest of 256 values: powers of ten from
// 1e-6 to 1, the range between two of them divided evenly, the more finely the larger it is. Blocks are of
// 256 elements, as bitsandbytes has them since 0.45 (the paper has 2048).
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace nemoforge::train {

constexpr int64_t kQuantizationBlock = 256;

// The 256 values in ascending order, 0 and 1 among them.
class DynamicCode {
 public:
  static const DynamicCode& with_sign();     // in (-1, 1], 127 below 0: the first moment
  static const DynamicCode& without_sign();  // in [0, 1]: the second moment

  // values[i] <- absmax * value of codes[i].
  void decode(std::span<const uint8_t> codes, float absmax, std::span<float> values) const;
  // The nearest codes; returns absmax, the largest magnitude (0 where all are 0). What is not 0 without sign
  // does not become 0: a second moment of 0 would let the step divide by epsilon alone.
  float encode(std::span<const float> values, std::span<uint8_t> codes) const;

  [[nodiscard]] const std::array<float, 256>& values() const { return values_; }

 private:
  explicit DynamicCode(bool has_sign);
  [[nodiscard]] uint8_t nearest(float value) const;

  bool has_sign_;
  std::array<float, 256> values_{};
  std::array<float, 255> midpoints_{};
  uint8_t zero_ = 0;  // the code of 0
};

}  // namespace nemoforge::train
