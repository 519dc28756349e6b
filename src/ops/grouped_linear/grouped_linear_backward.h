// The backward of grouped_linear: that of linear for each group's rows.
#pragma once

#include <cstdint>
#include <span>

#include "ops/linear/linear.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// T: f32, or bf16 on CUDA. Sums in f32.
struct GroupedLinearBackwardArgs {
  ConstTensorView x;        // [num_rows, in_features] T
  ConstTensorView offsets;  // [num_groups + 1] i32, ascending from 0 to num_rows; groups may be empty
  std::span<const LinearWeight> weights;  // [num_groups], all of one shape and dtype, without bias
  ConstTensorView d_out;                  // [num_rows, out_features] T
  TensorView d_x;                         // [num_rows, in_features] T, added to
  std::span<const TensorView> d_weights;  // [num_groups] [out_features, in_features] f32, added to; empty for
                                          // frozen weights
};

// Throws InternalError unless shapes, dtypes and aliasing are as above. Does not read the offsets, which may
// be on a device.
void check(const GroupedLinearBackwardArgs& args);
// Likewise for offsets in host memory, whose values are checked too.
void check_with_host_offsets(const GroupedLinearBackwardArgs& args);

}  // namespace nemoforge::ops
