// Element by element access to tensors in host memory: for the reference implementations and the tests, where
// clarity counts and speed does not.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Element (row, column) as a double, exactly; the columns of a tensor of higher rank are its inner dimensions
// flattened, a vector has one column.
[[nodiscard]] inline double load_element(ConstTensorView tensor, int64_t row, int64_t column = 0) {
  const int64_t index = row * tensor.row_stride() + column;
  switch (tensor.dtype()) {
    case DType::kF32:
      return static_cast<double>(tensor.data<float>()[index]);
    case DType::kBF16:
      return static_cast<double>(static_cast<float>(tensor.data<Bf16>()[index]));
    case DType::kF16:
      return static_cast<double>(static_cast<float>(tensor.data<F16>()[index]));
    case DType::kI32:
      return static_cast<double>(tensor.data<int32_t>()[index]);
    default:
      NF_CHECK(false) << dtype_name(tensor.dtype());
      return 0;
  }
}

// Rounds value to fp32 and from there to the element type, and writes it.
inline void store_element(TensorView tensor, int64_t row, int64_t column, double value) {
  const int64_t index = row * tensor.row_stride() + column;
  switch (tensor.dtype()) {
    case DType::kF32:
      tensor.data<float>()[index] = static_cast<float>(value);
      return;
    case DType::kBF16:
      tensor.data<Bf16>()[index] = Bf16(static_cast<float>(value));
      return;
    case DType::kF16:
      tensor.data<F16>()[index] = F16(static_cast<float>(value));
      return;
    case DType::kI32:
      tensor.data<int32_t>()[index] = static_cast<int32_t>(value);
      return;
    default:
      NF_CHECK(false) << dtype_name(tensor.dtype());
  }
}

// Adds value to the element, in double, with one rounding.
inline void add_element(TensorView tensor, int64_t row, int64_t column, double value) {
  store_element(tensor, row, column, load_element(tensor, row, column) + value);
}

}  // namespace nemoforge::ops
