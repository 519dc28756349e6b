#include <cmath>
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

#include "tensor/buffer.h"
#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace nemoforge {
namespace {

TEST(Bf16, rounds_to_nearest_even_and_keeps_nan) {
  EXPECT_EQ(Bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(Bf16(1.00390625f).bits, 0x3f80);  // halfway: down to even
  EXPECT_EQ(Bf16(1.01171875f).bits, 0x3f82);  // halfway: up to even
  EXPECT_TRUE(std::isnan(static_cast<float>(Bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(static_cast<float>(Bf16(std::numeric_limits<float>::max()))));
}

TEST(F16, every_value_survives_a_round_trip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    F16 value;
    value.bits = static_cast<uint16_t>(bits);
    const auto wide = static_cast<float>(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(F16(wide))));
    } else {
      EXPECT_EQ(F16(wide).bits, bits);
#ifdef __FLT16_MAX__
      _Float16 native;
      std::memcpy(&native, &value.bits, sizeof(native));
      EXPECT_EQ(static_cast<float>(native), wide);
#endif
    }
  }
  EXPECT_EQ(F16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(F16(65520.0f).bits, 0x7c00);
}

TEST(TensorView, slices_keep_their_parents_stride) {
  Tensor tensor = make_host_tensor(DType::kF32, {4, 6});
  const TensorView part = tensor.view().rows(1, 2).columns(2, 3);
  EXPECT_EQ(part.shape(), (Shape{2, 3}));
  EXPECT_EQ(part.row_stride(), 6);
  EXPECT_FALSE(part.is_contiguous());
  EXPECT_EQ(part.data<float>(), tensor.view().data<float>() + 6 + 2);
  EXPECT_THROW((void)part.data<Bf16>(), InternalError);
  EXPECT_THROW((void)part.reshape({6}), InternalError);
  EXPECT_THROW((void)tensor.view().rows(3, 2), InternalError);
}

TEST(DType, names_go_both_ways) {
  EXPECT_EQ(dtype_from_name("BF16"), DType::kBF16);
  EXPECT_EQ(dtype_name(DType::kF8E4M3), "F8_E4M3");
  EXPECT_FALSE(dtype_from_name("F4"));
}

}  // namespace
}  // namespace nemoforge
