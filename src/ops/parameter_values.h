// A small parameter as fp32 values, whatever float type it is stored in.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/dtype_dispatch.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// The elements of a contiguous tensor in host memory; none for an absent one.
[[nodiscard]] inline std::vector<float> parameter_values(const ConstTensorView& parameter) {
  std::vector<float> values;
  if (!parameter) return values;
  values.resize(static_cast<size_t>(parameter.numel()));
  dispatch_weight(parameter.dtype(), [&]<typename T>(std::type_identity<T>) {
    const T* from = parameter.data<T>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(from[i]);
  });
  return values;
}

}  // namespace nemoforge::ops
