// Attention of decode rows with the keys split over blocks.
#pragma once

#include "ops/attention/attention.h"
#include "ops/cuda_stream.cuh"

namespace nemoforge::ops {

// Whether the kernels take these sizes: head_dim a multiple of 32 up to 128, at most 32 query heads a key
// head, and partial sums of at most 512 MiB.
[[nodiscard]] bool decode_attention_fits(const AttentionArgs& args);

// Bytes of device memory that attention_decode needs for its partial sums.
[[nodiscard]] int64_t decode_attention_bytes(const AttentionArgs& args);

// Rows [0, num_decode) of out. `partial` has decode_attention_bytes. A row's result depends on its sequence
// alone: the splits begin at fixed positions.
void attention_decode(const AttentionArgs& args, float* partial, OpStream& stream);

}  // namespace nemoforge::ops
