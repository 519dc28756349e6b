// Matrix products of a warp on tiles of bf16 rows in shared memory, for the backward kernels: from global
// rows into tiles, through fp32 sums in registers, and added to gradients.
#pragma once

#include <cstdint>

#include "ops/gradient_elements.cuh"
#include "ops/tensor_core.cuh"

namespace nemoforge::ops {

// As if `value` could be another one from here on. In a loop this keeps the compiler from computing the
// addresses of all fragments once, before the loop, and holding them in registers that the sums need.
__device__ inline void hide_value(int& value) {
  asm volatile("" : "+r"(value));
}

struct Bf16Rows {
  const __nv_bfloat16* data;
  int64_t stride;
  bool aligned;  // rows begin at multiples of 16 bytes
};

inline Bf16Rows bf16_rows(const ConstTensorView& view) {
  return {static_cast<const __nv_bfloat16*>(view.raw()), view.row_stride(),
          reinterpret_cast<uintptr_t>(view.raw()) % 16 == 0 && view.row_stride() % kPieceElements == 0};
}

// A gradient of bf16 elements.
struct Bf16Gradient {
  DeviceRows<__nv_bfloat16> rows;
  bool paired;  // pairs of elements at even columns are aligned to pairs
};

inline Bf16Gradient bf16_gradient(const TensorView& view) {
  return {device_rows<__nv_bfloat16>(view),
          view.row_stride() % 2 == 0 && reinterpret_cast<uintptr_t>(view.raw()) % 4 == 0};
}

// Starts the copy of kColumns columns of rows [first_row, first_row + kRows) by the block's kThreads threads;
// zeros from end_row on.
template <int kRows, int kThreads, int kColumns>
__device__ void load_rows(const SharedTile<kColumns>& tile, const Bf16Rows& rows, int first_row, int end_row,
                          int column) {
  constexpr int kPieces = kColumns / kPieceElements;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces; i += kThreads) {
    const int row = first_row + i / kPieces;
    const bool valid = row < end_row;
    const __nv_bfloat16* source = rows.data;
    if (valid) source += row * rows.stride + column + i % kPieces * kPieceElements;
    copy_piece(tile.piece(i / kPieces, i % kPieces), source, valid, rows.aligned);
  }
}

// sums [16 x 8 kBlocks] += a [16 x 16] times rows [k, k + 16) of `right` [k][n], columns from `column` on.
template <int kBlocks, int kRight>
__device__ void multiply_add_rows(float (&sums)[kBlocks][4], const uint32_t (&a)[4],
                                  const SharedTile<kRight>& right, int k, int column, int lane) {
#pragma unroll
  for (int block = 0; block < kBlocks; block += 2) {
    uint32_t b[4];
    load_b_transposed(b, right, k, column + block * 8, lane);
    multiply_add(sums[block], a, b[0], b[1]);
    multiply_add(sums[block + 1], a, b[2], b[3]);
  }
}

// sums [16 x 8 kBlocks] += rows [row, row + 16) of `left` [m][k] times `right` [k][n] from `column` on, over
// k = 16 first .. 16 end - 1.
template <int kBlocks, int kLeft, int kRight>
__device__ void add_product(float (&sums)[kBlocks][4], const SharedTile<kLeft>& left, int row,
                            const SharedTile<kRight>& right, int column, int first, int end, int lane) {
#pragma unroll
  for (int k = first; k < end; ++k) {
    uint32_t a[4];
    load_a(a, left, row, k * 16, lane);
    multiply_add_rows(sums, a, right, k * 16, column, lane);
  }
}

// The same with `left` [k][m].
template <int kBlocks, int kLeft, int kRight>
__device__ void add_transposed_product(float (&sums)[kBlocks][4], const SharedTile<kLeft>& left, int row,
                                       const SharedTile<kRight>& right, int column, int first, int end,
                                       int lane) {
#pragma unroll
  for (int k = first; k < end; ++k) {
    uint32_t a[4];
    load_a_transposed(a, left, k * 16, row, lane);
    multiply_add_rows(sums, a, right, k * 16, column, lane);
  }
}

// sums [16 x 8 kBlocks] += products of rows [row, row + 16) of `left` with rows [other, other + 8 kBlocks) of
// `right`, over all their columns.
template <int kBlocks, int kColumns>
__device__ void add_product_of_rows(float (&sums)[kBlocks][4], const SharedTile<kColumns>& left, int row,
                                    const SharedTile<kColumns>& right, int other, int lane) {
#pragma unroll
  for (int k = 0; k < kColumns; k += 16) {
    uint32_t a[4];
    load_a(a, left, row, k, lane);
#pragma unroll
    for (int block = 0; block < kBlocks; block += 2) {
      uint32_t b[4];
      load_b(b, right, other + block * 8, k, lane);
      multiply_add(sums[block], a, b[0], b[1]);
      multiply_add(sums[block + 1], a, b[2], b[3]);
    }
  }
}

// A product's sums [16 x 8 kBlocks] rounded to bf16 pairs: of block b, [b][0] has row lane / 4 of the warp's
// and [b][1] row lane / 4 + 8, as the left operand of another product has them.
template <int kBlocks>
using PackedSums = uint32_t[kBlocks][2];

// sums [16 x 8 kBlocks] += left [16 x 8 kInner] times the first 8 kInner rows of `right` [k][n].
template <int kBlocks, int kInner, int kRight>
__device__ void add_packed_product(float (&sums)[kBlocks][4], const PackedSums<kInner>& left,
                                   const SharedTile<kRight>& right, int lane) {
#pragma unroll
  for (int k = 0; k < kInner; k += 2) {
    const uint32_t a[4] = {left[k][0], left[k][1], left[k + 1][0], left[k + 1][1]};
    multiply_add_rows(sums, a, right, k * 8, 0, lane);
  }
}

__device__ inline uint32_t pack(float first, float second) {
  return as_register(__floats2bfloat162_rn(first, second));
}

__device__ inline float2 as_floats(const __nv_bfloat16* pair) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(pair));
}

__device__ inline void add_pair(__nv_bfloat16* gradient, float first, float second, bool paired) {
  if (paired) {
    const float2 old = as_floats(gradient);
    *reinterpret_cast<__nv_bfloat162*>(gradient) = __floats2bfloat162_rn(old.x + first, old.y + second);
    return;
  }
  add_to(gradient[0], first);
  add_to(gradient[1], second);
}

// Sums over the four lanes that share a row of a product, and over the eight that share its columns.
__device__ inline float sum_over_columns(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}
__device__ inline float sum_over_rows(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 4);
  value += __shfl_xor_sync(0xffffffffu, value, 8);
  return value + __shfl_xor_sync(0xffffffffu, value, 16);
}

}  // namespace nemoforge::ops
