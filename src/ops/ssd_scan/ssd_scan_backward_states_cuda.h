// The states before the chunks of a scan and the gradients of those after them, for the backward on tensor
// cores.
#pragma once

#include <cstdint>

#include "ops/cuda_stream.cuh"
#include "ops/ssd_scan/ssd_scan_backward_steps.cuh"
#include "ops/tile_products.cuh"

namespace nemoforge::ops {

// Heads of a group whose steps are made at once, by a warp each: a warp alone takes as long.
constexpr int kHeadsAtOnce = 8;

struct ProductProblem {
  ScanGradientProblem scan;
  Bf16Rows x, b, c, d_y;
  __nv_bfloat16* states;     // [num_chunks, num_heads, head_dim, state_size]: before the chunks
  __nv_bfloat16* gradients;  // likewise: of the states after them
  float* decays;             // [num_chunks, num_heads]
};

// Writes problem's states, gradients and decays. head_dim is 32 or 64, state_size 64 or 128.
void make_chunk_states(const ProductProblem& problem, int64_t head_dim, int64_t state_size, OpStream& stream);

}  // namespace nemoforge::ops
