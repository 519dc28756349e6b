// The matrix product of a warpgroup (wgmma): 128 threads multiply tiles that lie in shared memory, and do not
// wait for the result. Hopper alone has it (sm_90a).
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "ops/tensor_core.cuh"

namespace nemoforge::ops {

// A tile [rows][64 elements along the sum], swizzled as SharedTile<64> is, which begins at a multiple of 1024
// bytes: as wgmma's matrix descriptor (PTX ISA, "Matrix Descriptor Format": 128-byte swizzle, 1024 bytes from
// eight rows to the next eight).
__device__ inline uint64_t tile_descriptor(const __nv_bfloat16* tile) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kEightRows = uint64_t{1024 / 16} << 32;
  return kSwizzle128 | kEightRows | uint64_t{1} << 16 | (shared_address(tile) & 0x3ffff) / 16;
}
// What the descriptor grows by for the next 16 elements along the sum.
constexpr uint64_t kDescriptorStep = 16 * 2 / 16;

// Copies and stores of this thread into shared memory come before matrix products that are issued after the
// next barrier.
__device__ inline void publish_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Before the first product of a group: registers written so far are seen by it.
__device__ inline void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most kPending groups of products are unfinished.
template <int kPending>
__device__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// A tile of kRows rows along the sum x columns, for a B that is read transposed: chunks of 64 columns, each
// as SharedTile<64>, one after another from a multiple of 1024 bytes on. The next 16 rows along the sum are
// kTransposedStep further, the next 128 columns two chunks.
template <int kRows>
__device__ uint64_t transposed_tile_descriptor(const __nv_bfloat16* tile) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kEightRows = uint64_t{1024 / 16} << 32;
  constexpr uint64_t kNextChunk = uint64_t{kRows * 64 * 2 / 16} << 16;
  return kSwizzle128 | kEightRows | kNextChunk | (shared_address(tile) & 0x3ffff) / 16;
}
constexpr uint64_t kTransposedStep = 16 * 64 * 2 / 16;

// sums [64 x 128] += A [64 x 16] B^T, B [128 x 16] (or, kTransposedB, A B with B [16 x 128]); bf16 products,
// fp32 sums, not to be touched before wait_for_products. Of sums, lane l of warp w has in block j rows 16 w +
// l / 4 ([0] and [1]) and 8 further
// ([2] and [3]), at columns 8 j + 2 (l % 4) and the next.
template <bool kTransposedB = false>
__device__ void multiply_add_async(float (&sums)[16][4], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, 1, 1, 1, 0, %66;"
      : "+f"(sums[0][0]), "+f"(sums[0][1]), "+f"(sums[0][2]), "+f"(sums[0][3]), "+f"(sums[1][0]),
        "+f"(sums[1][1]), "+f"(sums[1][2]), "+f"(sums[1][3]), "+f"(sums[2][0]), "+f"(sums[2][1]),
        "+f"(sums[2][2]), "+f"(sums[2][3]), "+f"(sums[3][0]), "+f"(sums[3][1]), "+f"(sums[3][2]),
        "+f"(sums[3][3]), "+f"(sums[4][0]), "+f"(sums[4][1]), "+f"(sums[4][2]), "+f"(sums[4][3]),
        "+f"(sums[5][0]), "+f"(sums[5][1]), "+f"(sums[5][2]), "+f"(sums[5][3]), "+f"(sums[6][0]),
        "+f"(sums[6][1]), "+f"(sums[6][2]), "+f"(sums[6][3]), "+f"(sums[7][0]), "+f"(sums[7][1]),
        "+f"(sums[7][2]), "+f"(sums[7][3]), "+f"(sums[8][0]), "+f"(sums[8][1]), "+f"(sums[8][2]),
        "+f"(sums[8][3]), "+f"(sums[9][0]), "+f"(sums[9][1]), "+f"(sums[9][2]), "+f"(sums[9][3]),
        "+f"(sums[10][0]), "+f"(sums[10][1]), "+f"(sums[10][2]), "+f"(sums[10][3]), "+f"(sums[11][0]),
        "+f"(sums[11][1]), "+f"(sums[11][2]), "+f"(sums[11][3]), "+f"(sums[12][0]), "+f"(sums[12][1]),
        "+f"(sums[12][2]), "+f"(sums[12][3]), "+f"(sums[13][0]), "+f"(sums[13][1]), "+f"(sums[13][2]),
        "+f"(sums[13][3]), "+f"(sums[14][0]), "+f"(sums[14][1]), "+f"(sums[14][2]), "+f"(sums[14][3]),
        "+f"(sums[15][0]), "+f"(sums[15][1]), "+f"(sums[15][2]), "+f"(sums[15][3])
      : "l"(a), "l"(b), "n"(kTransposedB ? 1 : 0));
}

}  // namespace nemoforge::ops
