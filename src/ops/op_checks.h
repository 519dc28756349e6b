// Preconditions that the checks of several ops share.
#pragma once

#include <cstdint>

#include "ops/ragged_rows.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// f32 or bf16: what activations and outputs are stored in.
[[nodiscard]] inline bool is_activation(const ConstTensorView& view) {
  return view && (view.dtype() == DType::kF32 || view.dtype() == DType::kBF16);
}

// f32, bf16 or f16, contiguous: what small parameters (norm weights, conv filters) are stored in.
[[nodiscard]] inline bool is_parameter(const ConstTensorView& view) {
  return view && view.is_contiguous() &&
         (view.dtype() == DType::kF32 || view.dtype() == DType::kBF16 || view.dtype() == DType::kF16);
}

// Throws InternalError unless `view` is a [num_rows, num_columns] matrix of f32 or bf16 whose rows do not
// overlap; `name` says which one.
void check_activation(const ConstTensorView& view, int64_t num_rows, int64_t num_columns, const char* name);

// Throws InternalError unless the bytes of the two views are disjoint. Column slices of one matrix are.
void check_disjoint(const ConstTensorView& a, const ConstTensorView& b, const char* names);

// Throws InternalError unless the two views are the same elements, or their bytes are disjoint.
void check_same_or_disjoint(const ConstTensorView& a, const ConstTensorView& b, const char* names);

// Counts, and the shapes and dtypes of the index tensors. Does not read the tensors, which may be on a
// device.
void check(const RaggedRows& rows);

}  // namespace nemoforge::ops
