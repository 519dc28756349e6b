// From an element type at run time to a template parameter, and the checks of element types that all ops
// share.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Activations are f32 or bf16; weights may be f16 as well.
[[nodiscard]] inline bool is_activation_dtype(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16;
}
[[nodiscard]] inline bool is_weight_dtype(DType dtype) {
  return is_activation_dtype(dtype) || dtype == DType::kF16;
}

// Calls function(std::type_identity<T>{}) with the C++ type of an activation.
template <typename Function>
decltype(auto) dispatch_activation(DType dtype, Function&& function) {
  NF_CHECK(is_activation_dtype(dtype)) << dtype_name(dtype);
  return dtype == DType::kF32 ? std::forward<Function>(function)(std::type_identity<float>{})
                              : std::forward<Function>(function)(std::type_identity<Bf16>{});
}

// Calls function(std::type_identity<T>{}) with the C++ type of a weight.
template <typename Function>
decltype(auto) dispatch_weight(DType dtype, Function&& function) {
  NF_CHECK(is_weight_dtype(dtype)) << dtype_name(dtype);
  if (dtype == DType::kF16) return std::forward<Function>(function)(std::type_identity<F16>{});
  return dispatch_activation(dtype, std::forward<Function>(function));
}

// Whether the bytes from the first to the last element of two tensors have any in common.
[[nodiscard]] inline bool overlaps(ConstTensorView a, ConstTensorView b) {
  if (!a || !b || a.numel() == 0 || b.numel() == 0) return false;
  const auto end = [](ConstTensorView view) {
    const int64_t last_row = (view.size(0) - 1) * view.row_stride();
    return static_cast<const std::byte*>(view.raw()) +
           (last_row + view.numel() / view.size(0)) * dtype_bytes(view.dtype());
  };
  return static_cast<const std::byte*>(a.raw()) < end(b) && static_cast<const std::byte*>(b.raw()) < end(a);
}

}  // namespace nemoforge::ops
