// Attention of many query rows over the paged cache, on tensor cores.
#pragma once

#include <cuda_runtime.h>

#include "ops/attention/attention.h"

namespace nemoforge::ops {

// Launches for the sequences after the first rows->num_decode and returns true where the kernel applies:
// queries and cache in bf16, heads of 32, 64 or 128. Else nothing is done. args are checked.
[[nodiscard]] bool attention_prefill(const AttentionArgs& args, cudaStream_t stream);

}  // namespace nemoforge::ops
