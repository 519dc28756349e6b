// The gradients of the routed experts in bf16, on tensor cores.
#pragma once

#include <cuda_runtime.h>

#include "ops/grouped_linear/grouped_linear_backward.h"

namespace nemoforge::ops {

constexpr int kMaxGroups = 512;  // what a kernel's parameters have room for

// Where the groups' matrices are, in a kernel's parameters.
template <typename T>
struct GroupPointers {
  T* of_group[kMaxGroups];
};

// Whether the kernels below apply: everything in bf16, and rows of whole, aligned 16-byte pieces.
[[nodiscard]] bool grouped_products_apply(const GroupedLinearBackwardArgs& args);
// d_x += d_out W.
void add_grouped_d_x(const GroupedLinearBackwardArgs& args, cudaStream_t stream);
// d_W += d_out^T x.
void add_grouped_d_weights(const GroupedLinearBackwardArgs& args, cudaStream_t stream);

}  // namespace nemoforge::ops
