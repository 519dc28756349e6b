// The routed experts' matrix products for many rows an expert, on tensor cores.
#pragma once

#include <cuda_runtime.h>

#include "ops/grouped_linear/grouped_linear.h"

namespace nemoforge::ops {

// Launches and returns true where the kernel applies: x and weights in bf16, rows of 16-byte pieces, and on
// average enough rows a group for tensor cores to pay. Else nothing is done. args are checked and not empty.
// group_stride: elements from a group's weight to the next.
[[nodiscard]] bool grouped_linear_prefill(const GroupedLinearArgs& args, int64_t group_stride,
                                          cudaStream_t stream);

// Whether the current device has wgmma, and this build the kernels that use it.
[[nodiscard]] bool has_warpgroup_products();

}  // namespace nemoforge::ops
