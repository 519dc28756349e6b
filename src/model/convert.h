// Conversion between the float types that tensors are stored in.
#pragma once

#include "tensor/tensor_view.h"

namespace nemoforge::model {

// Whether the type is one that dense weights are stored in: f32, bf16 or f16.
[[nodiscard]] bool is_dense_float(DType dtype);

// to[i] = from[i], rounded to nearest even where the type is narrower. Host memory, both contiguous and of as
// many elements, both of a dense float type.
void convert_elements(const ConstTensorView& from, const TensorView& to);

}  // namespace nemoforge::model
