// Element types of tensors, and the 16-bit floats as C++ types.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace nemoforge {

enum class DType : uint8_t { kF32, kBF16, kF16, kF64, kF8E4M3, kU8, kI8, kI16, kI32, kI64, kBool };

// Bytes of one element.
[[nodiscard]] int64_t dtype_bytes(DType dtype);

// The name that safetensors files use: "F32", "BF16", "F8_E4M3", ...
[[nodiscard]] std::string_view dtype_name(DType dtype);

// The type of a safetensors name; nothing for a name that nemoforge does not know.
[[nodiscard]] std::optional<DType> dtype_from_name(std::string_view name);

// bfloat16: the upper half of a float. Conversion from float rounds to nearest even; NaN stays NaN.
struct Bf16 {
  uint16_t bits = 0;

  Bf16() = default;
  explicit Bf16(float value) {
    const auto word = std::bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<uint16_t>((word >> 16) | 0x40u);
    } else {
      bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
    }
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// IEEE binary16. Conversion from float rounds to nearest even and overflows to infinity.
struct F16 {
  uint16_t bits = 0;

  F16() = default;
  explicit F16(float value);
  explicit operator float() const;
};

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<Bf16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<F16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};

}  // namespace nemoforge
