// Many linear layers side by side, each on its own run of rows: the routed experts of a mixture of experts.
//
//   for group e, rows r in [offsets[e], offsets[e + 1]):   out[r] = x[r] W_e^T
#pragma once

#include <cstdint>
#include <span>

#include "ops/linear/linear.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Sums in fp32, one rounding to the dtype of `out`. Row r of out depends on row r of x and its group's weight
// alone: not on how many rows its group has, nor on where in the group it stands.
struct GroupedLinearArgs {
  ConstTensorView x;        // [num_rows, in_features] f32 or bf16
  ConstTensorView offsets;  // [num_groups + 1] i32, ascending from 0 to num_rows; groups may be empty
  std::span<const LinearWeight> weights;  // [num_groups], all of one shape and dtype, without bias
  TensorView out;                         // [num_rows, out_features] f32 or bf16; does not overlap x
};

// Throws InternalError unless shapes, dtypes and aliasing are as above; does not read the offsets, whose
// memory may be a device's.
void check(const GroupedLinearArgs& args);

// The values of the offsets, where they are in host memory.
void check_host_offsets(const GroupedLinearArgs& args);

}  // namespace nemoforge::ops
