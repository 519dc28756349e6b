// The backward of grouped_linear: that of linear for each group's rows.
#pragma once

#include <cstdint>
#include <span>

#include "ops/linear/linear.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

struct GroupedLinearBackwardArgs {
  ConstTensorView x;        // [num_rows, in_features] f32
  ConstTensorView offsets;  // [num_groups + 1] i32, ascending from 0 to num_rows; groups may be empty
  std::span<const LinearWeight> weights;  // [num_groups], all of one shape and dtype, without bias
  ConstTensorView d_out;                  // [num_rows, out_features] f32
  TensorView d_x;                         // [num_rows, in_features] f32, added to
  std::span<const TensorView> d_weights;  // [num_groups] [out_features, in_features] f32, added to; empty for
                                          // frozen weights
};

// Throws InternalError unless shapes, dtypes and aliasing are as above; reads the offsets, which are in host
// memory on the backends that train so far.
void check(const GroupedLinearBackwardArgs& args);

}  // namespace nemoforge::ops
