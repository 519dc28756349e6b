// Building blocks of the tensor-core kernels: swizzled tiles in shared memory, asynchronous copies into them,
// fragments out of them, and the bf16 matrix product of a warp. Everything here exists from sm_80 on.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

namespace nemoforge::ops {

constexpr int kPieceElements = 8;  // bf16 elements of a 16-byte piece

// A tile of rows of kColumns bf16 elements in shared memory. The 16-byte pieces of a row are permuted by the
// row's number, so that the eight rows of an 8 x 8 matrix lie in different banks.
template <int kColumns>
struct SharedTile {
  static constexpr int kPieces = kColumns / kPieceElements;
  static_assert(kPieces == 4 || kPieces % 8 == 0);

  __nv_bfloat16* data;

  __device__ __nv_bfloat16* piece(int row, int piece_idx) const {
    const int swizzled = kPieces == 4 ? piece_idx ^ (row / 2 % 4) : piece_idx ^ (row % 8);
    return data + row * kColumns + swizzled * kPieceElements;
  }
  __device__ __nv_bfloat16& at(int row, int column) const {
    return piece(row, column / kPieceElements)[column % kPieceElements];
  }
};

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies 8 elements into shared memory, zeros where !valid (`source` is then not read, but must be an
// address). Where `aligned` the copy is asynchronous and `source` is a multiple of 16 bytes.
__device__ inline void copy_piece(__nv_bfloat16* target, const __nv_bfloat16* source, bool valid,
                                  bool aligned) {
  if (aligned) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(target)), "l"(source),
                 "r"(valid ? 16 : 0)
                 : "memory");
    return;
  }
#pragma unroll
  for (int i = 0; i < kPieceElements; ++i) target[i] = valid ? source[i] : __nv_bfloat16(0.0f);
}

// Ends the group of the copies that this thread has started.
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most kPending of this thread's groups are unfinished. Other threads see the copies after a
// barrier.
template <int kPending>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void load_matrices(uint32_t (&registers)[4], const __nv_bfloat16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same with each matrix transposed.
__device__ inline void load_transposed(uint32_t (&registers)[4], const __nv_bfloat16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(shared_address(row))
               : "memory");
}

// A [16 x 16] from rows row .. row + 15, columns column .. column + 15 of a tile [m][k].
template <int kColumns>
__device__ void load_a(uint32_t (&a)[4], const SharedTile<kColumns>& tile, int row, int column, int lane) {
  load_matrices(a, tile.piece(row + lane % 16, column / kPieceElements + lane / 16));
}

// Two B [16 x 8] side by side (n .. n + 7 in b[0..1], n + 8 .. n + 15 in b[2..3]) from a tile [n][k].
template <int kColumns>
__device__ void load_b(uint32_t (&b)[4], const SharedTile<kColumns>& tile, int n, int k, int lane) {
  load_matrices(b, tile.piece(n + lane % 8 + lane / 16 * 8, k / kPieceElements + lane / 8 % 2));
}

// The same from a tile [k][n].
template <int kColumns>
__device__ void load_b_transposed(uint32_t (&b)[4], const SharedTile<kColumns>& tile, int k, int n,
                                  int lane) {
  load_transposed(b, tile.piece(k + lane % 16, n / kPieceElements + lane / 16));
}

// A [16 x 16] from a tile [k][m].
template <int kColumns>
__device__ void load_a_transposed(uint32_t (&a)[4], const SharedTile<kColumns>& tile, int k, int m,
                                  int lane) {
  load_transposed(a, tile.piece(k + lane % 8 + lane / 16 * 8, m / kPieceElements + lane / 8 % 2));
}

// sums [16 x 8] += A [16 x 16] B [16 x 8]; bf16 products, fp32 sums. Of sums, a lane has row lane / 4 in [0]
// and [1] and row lane / 4 + 8 in [2] and [3], at columns 2 (lane % 4) and the next.
__device__ inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline uint32_t as_register(__nv_bfloat162 pair) {
  return *reinterpret_cast<uint32_t*>(&pair);
}

// Two fp32 numbers as a bf16 pair and the bf16 pair of what that rounding left out: together 16 bits of each
// mantissa, 2^-17 relative.
struct SplitPair {
  uint32_t high;
  uint32_t low;
};
__device__ inline SplitPair split(float first, float second) {
  const __nv_bfloat162 high = __floats2bfloat162_rn(first, second);
  const __nv_bfloat162 low = __floats2bfloat162_rn(first - __low2float(high), second - __high2float(high));
  return {as_register(high), as_register(low)};
}

// Rounds the pair to `out`, in one access where `paired` (out is then aligned to the pair).
__device__ inline void store_pair(__nv_bfloat16* out, float first, float second, bool paired) {
  if (paired) {
    *reinterpret_cast<__nv_bfloat162*>(out) = __floats2bfloat162_rn(first, second);
  } else {
    out[0] = __float2bfloat16_rn(first);
    out[1] = __float2bfloat16_rn(second);
  }
}
__device__ inline void store_pair(float* out, float first, float second, bool paired) {
  if (paired) {
    *reinterpret_cast<float2*>(out) = make_float2(first, second);
  } else {
    out[0] = first;
    out[1] = second;
  }
}

}  // namespace nemoforge::ops
