// From an element type at run time to a template parameter.
#pragma once

#include <type_traits>
#include <utility>

#include "base/check.h"
#include "tensor/dtype.h"

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

}  // namespace nemoforge::ops
