// Preconditions that the checks of the backward ops share.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Throws InternalError unless `view` is a [num_rows, num_columns] matrix of this dtype whose rows do not
// overlap.
inline void check_matrix(const ConstTensorView& view, DType dtype, int64_t num_rows, int64_t num_columns,
                         const char* name) {
  NF_CHECK(view && view.dtype() == dtype && (view.shape() == Shape{num_rows, num_columns}))
      << name << ": " << dtype_name(dtype) << " [" << num_rows << ", " << num_columns << "] expected, got "
      << (view ? dtype_name(view.dtype()) : "nothing") << ' ' << view.shape().to_string();
  NF_CHECK(num_rows <= 1 || view.row_stride() >= num_columns) << name << ": rows overlap";
}
inline void check_f32_matrix(const ConstTensorView& view, int64_t num_rows, int64_t num_columns,
                             const char* name) {
  check_matrix(view, DType::kF32, num_rows, num_columns, name);
}

// Likewise a matrix of f32 or of `dtype`.
inline void check_matrix_or_f32(const ConstTensorView& view, DType dtype, int64_t num_rows,
                                int64_t num_columns, const char* name) {
  check_matrix(view, view && view.dtype() == DType::kF32 ? DType::kF32 : dtype, num_rows, num_columns, name);
}

// The contracts' T: the dtype of `view`, which is f32 or bf16.
inline DType activation_dtype(const ConstTensorView& view, const char* name) {
  NF_CHECK(view && (view.dtype() == DType::kF32 || view.dtype() == DType::kBF16))
      << name << ": " << (view ? dtype_name(view.dtype()) : "nothing");
  return view.dtype();
}

// Likewise a contiguous tensor of this shape, which may be absent.
inline void check_optional_f32(const ConstTensorView& view, const Shape& shape, const char* name) {
  NF_CHECK(!view || (view.dtype() == DType::kF32 && view.shape() == shape && view.is_contiguous()))
      << name << ": f32 " << shape.to_string() << " expected, got " << dtype_name(view.dtype()) << ' '
      << view.shape().to_string();
}

// A contiguous tensor of i32.
inline void check_i32(const ConstTensorView& view, const Shape& shape, const char* name) {
  NF_CHECK(view && view.dtype() == DType::kI32 && view.shape() == shape && view.is_contiguous())
      << name << ": i32 " << shape.to_string() << " expected, got " << view.shape().to_string();
}

}  // namespace nemoforge::ops
