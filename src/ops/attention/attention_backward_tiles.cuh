// What the two large kernels of attention's backward share: the problem, the layout of shared memory, and
// weights as powers of two. See attention_backward_tiles_cuda.cu.
#pragma once

#include <cmath>
#include <cstdint>

#include "ops/cuda_stream.cuh"
#include "ops/document_rows.cuh"
#include "ops/tile_products.cuh"

namespace nemoforge::ops {

constexpr int kAttentionWarps = 8;
constexpr int kAttentionThreads = kAttentionWarps * 32;
constexpr int kAttentionOwnRows = kAttentionWarps * 16;  // (row, head) pairs, or keys, of a block
constexpr int kAttentionStep = 64;                       // keys, or rows, of a tile that a block visits

struct AttentionGradientProblem {
  Bf16Rows q, k, v, d_out;
  DocumentRows documents;
  int num_heads, heads_per_kv_head, heads_per_split;
  float scale, scale_log2;  // scale log2(e): weights are powers of 2
  int* begins;              // [num_rows]: first row of each row's document
  float* log_sums;          // [num_heads, num_rows]: log2 of the sum of the weights
  float* deltas;            // [num_heads, num_rows]
  float* key_shares;        // [splits, 2 (d_k, d_v), num_rows, num_kv_heads * head_dim]
};

// 2^x to 2 ulp; 0 for -infinity.
__device__ inline float power_of_2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Shared memory of both large kernels: two matrices of the block's own rows, and two of the visited ones in
// two buffers.
template <int kHeadDim>
struct AttentionTiles {
  using Tile = SharedTile<kHeadDim>;
  static constexpr int kOwnElements = kAttentionOwnRows * kHeadDim;
  static constexpr int kVisitedElements = kAttentionStep * kHeadDim;
  static constexpr int kBytes =
      (2 * kOwnElements + 4 * kVisitedElements) * static_cast<int>(sizeof(__nv_bfloat16));
  __device__ static Tile own(__nv_bfloat16* shared, int matrix) { return {shared + matrix * kOwnElements}; }
  __device__ static Tile visited(__nv_bfloat16* shared, int buffer, int matrix) {
    return {shared + 2 * kOwnElements + (2 * buffer + matrix) * kVisitedElements};
  }
};

using AttentionScores = float[kAttentionStep / 8][4];
using AttentionWeights = PackedSums<kAttentionStep / 8>;

// The two kernels, for heads of 32, 64 or 128 channels. query_gradients adds d_q and leaves log_sums and
// deltas, which key_gradients reads; it leaves key_shares.
void launch_query_gradients(const AttentionGradientProblem& problem, int head_dim, const Bf16Gradient& d_q,
                            OpStream& stream);
void launch_key_gradients(const AttentionGradientProblem& problem, int head_dim, OpStream& stream);

}  // namespace nemoforge::ops
