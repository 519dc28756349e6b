// What the backward kernels share. Sums over rows are taken in two steps, so that their order, and with it
// every bit, is the same in each run: blocks leave partial sums in scratch memory, and a second kernel adds
// those in order.
#pragma once

#include <cstdint>

#include "ops/cuda_stream.cuh"

namespace nemoforge::ops {

// out[i] += sum over p of partials[p stride + i] for i < count, p from first to last.
void add_partial_sums(const float* partials, int64_t num_partials, int64_t stride, int64_t count, float* out,
                      OpStream& stream);

}  // namespace nemoforge::ops
