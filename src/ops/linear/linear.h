// A linear layer: out = x W^T + bias. The format of the weight is a property of the layer (LinearWeight), so
// that quantised formats join without touching the model.
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// A weight matrix as a checkpoint stores it. Dense: elements f32, bf16 or f16, each exactly representable in
// fp32.
struct LinearWeight {
  ConstTensorView weight;  // [out_features, in_features], contiguous
  ConstTensorView bias;    // [out_features], same element types; absent for none

  [[nodiscard]] int64_t out_features() const { return weight.size(0); }
  [[nodiscard]] int64_t in_features() const { return weight.size(1); }
};

// Sums in fp32; the bias is added in fp32; one rounding to the dtype of `out`.
// Row r of out depends on row r of x alone and on whether r < num_decode_rows (RaggedRows says why).
struct LinearArgs {
  ConstTensorView x;  // [num_rows, in_features] f32 or bf16, row stride free
  const LinearWeight* weight = nullptr;
  int64_t num_decode_rows = 0;  // leading rows that go through the decode kernel; 0 .. num_rows
  TensorView out;               // [num_rows, out_features] f32 or bf16, row stride free; does not overlap x
};

// Throw InternalError unless shapes, dtypes and aliasing are as above.
void check(const LinearWeight& weight);
void check(const LinearArgs& args);

}  // namespace nemoforge::ops
