// The product of a few bf16 rows with a bf16 weight, for decode: the weight is streamed once, tensor cores do
// the arithmetic, so that up to kFewRowsMax rows cost what one costs.
//
// A block takes one or several tiles of 16 output columns, one after another; its kFewRowsWarps warps take
// turns along in_features, kFewRowsStep elements at a time, and add up their sums in shared memory in a fixed
// order: a row's bits do not depend on how many rows there are. mma.m16n8k16 takes the weight as the matrix
// of 16 rows and x as the one of 8 columns. The order of the elements of k inside a step is free as long as
// both operands agree, so a lane takes 8 neighbouring elements of each (16 bytes) and feeds them to two mma.
//
// The weight passes through shared memory, copied kFewRowsStages - 1 steps ahead, across the ends of tiles
// too; each lane copies what it will read itself, so nobody waits for anybody. No kernel writes weights: the
// first copies start while the kernel before still runs.
//
// Preconditions (few_rows_fit): in_features a multiple of 8, rows and weights aligned to 16 bytes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/cuda_elements.cuh"
#include "ops/cuda_stream.cuh"
#include "ops/tensor_core.cuh"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

constexpr int kFewRowsWarps = 8;
constexpr int kFewRowsThreads = 32 * kFewRowsWarps;
constexpr int kFewRowsColumns = 16;  // of out, a block
constexpr int kFewRowsTile = 8;      // rows an mma takes

inline bool few_rows_fit(const ConstTensorView& x, const ConstTensorView& weight) {
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  return x.dtype() == DType::kBF16 && weight.dtype() == DType::kBF16 && weight.size(1) % 8 == 0 &&
         x.row_stride() % 8 == 0 && aligned(x.raw()) && aligned(weight.raw());
}

__device__ inline void mma_16x8x16(float (&sums)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                   uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

constexpr int kFewRowsStep = 64;   // elements of k a warp takes at once: 128 bytes of each weight row
constexpr int kFewRowsStages = 3;  // steps whose copies are under way
constexpr int kFewRowsPieces = 4;  // 16-byte pieces of the weight that a lane has of a step
constexpr int kFewRowsMaxTiles = 4;
constexpr int kFewRowsMax = kFewRowsMaxTiles * kFewRowsTile;  // rows
constexpr int kFewRowsOutputs = kFewRowsTile * kFewRowsColumns;
constexpr int kFewRowsStageBytes = kFewRowsWarps * kFewRowsPieces * 32 * 16;
constexpr int kFewRowsBlocks = 3;  // a multiprocessor of an H100 has room for
constexpr int few_rows_shared_bytes(int num_tiles) {
  return kFewRowsStages * kFewRowsStageBytes + kFewRowsWarps * num_tiles * kFewRowsOutputs * 4;
}

// One product of a block: 16 columns of one weight with up to kFewRowsMax rows.
template <typename OutT>
struct FewRowsJob {
  const __nv_bfloat16* weight;  // [out_features, in_features]
  const __nv_bfloat16* x;
  OutT* out;
  int first_column;
  int num_rows;
};

// What all products of a block share.
struct FewRowsShape {
  int in_features, out_features;
  int64_t x_stride, out_stride;
  const __nv_bfloat16* bias;  // null: none
};

// Starts the copies of this lane's pieces of a step to `pieces`, zeros for what does not exist.
__device__ inline void copy_few_rows_step(const FewRowsShape& shape, const __nv_bfloat16* weight,
                                          int first_column, int step, uint4* pieces) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int k = (warp + step * kFewRowsWarps) * kFewRowsStep + lane % 4 * 8;
  if (k >= shape.in_features) return;
#pragma unroll
  for (int i = 0; i < kFewRowsPieces; ++i) {
    const int column = first_column + lane / 4 + i / 2 * 8;
    const int at = k + i % 2 * 32;
    const bool valid = column < shape.out_features && at < shape.in_features;
    const __nv_bfloat16* source =
        valid ? weight + static_cast<int64_t>(column) * shape.in_features + at : weight;
    copy_piece(reinterpret_cast<__nv_bfloat16*>(pieces + i * 32), source, valid, true);
  }
}

// The products of one step for up to kTiles * kFewRowsTile rows.
template <int kTiles>
__device__ void multiply_few_rows_step(const FewRowsShape& shape, const uint4 (&values)[kTiles][2], int k,
                                       const uint4* pieces, float (&sums)[kTiles][4]) {
  const uint4 zero{0, 0, 0, 0};
  const bool inside = k < shape.in_features;  // else the pieces were not copied
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 low = inside ? pieces[half * 32] : zero;
    const uint4 high = inside ? pieces[(2 + half) * 32] : zero;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint4 v = values[tile][half];
      mma_16x8x16(sums[tile], low.x, high.x, low.y, high.y, v.x, v.y);
      mma_16x8x16(sums[tile], low.z, high.z, low.w, high.w, v.z, v.w);
    }
  }
}

// Adds up the warps' sums and writes the job's outputs.
template <int kTiles, typename OutT>
__device__ void finish_few_rows(const FewRowsShape& shape, const FewRowsJob<OutT>& job,
                                const float (&sums)[kTiles][4], float* partial) {
  constexpr int kOutputs = kTiles * kFewRowsOutputs;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncthreads();  // the sums of the job before have been read
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float* of_tile = partial + warp * kOutputs + tile * kFewRowsOutputs;
    const int row = lane % 4 * 2;
    const int column = lane / 4;
    of_tile[row * kFewRowsColumns + column] = sums[tile][0];
    of_tile[(row + 1) * kFewRowsColumns + column] = sums[tile][1];
    of_tile[row * kFewRowsColumns + column + 8] = sums[tile][2];
    of_tile[(row + 1) * kFewRowsColumns + column + 8] = sums[tile][3];
  }
  __syncthreads();  // every warp's sums are written
  for (int i = static_cast<int>(threadIdx.x); i < kOutputs; i += kFewRowsThreads) {
    const int row = i / kFewRowsColumns;
    const int column = job.first_column + i % kFewRowsColumns;
    if (row >= job.num_rows || column >= shape.out_features) continue;
    float sum = 0;
#pragma unroll
    for (int other = 0; other < kFewRowsWarps; ++other) sum += partial[other * kOutputs + i];
    if (shape.bias != nullptr) sum += to_float(shape.bias[column]);
    job.out[row * shape.out_stride + column] = from_float<OutT>(sum);
  }
}

// All products of a block. Jobs::next(FewRowsJob&) gives them one by one, and false after the last; the same
// for all threads. await_previous_kernel() is called after the first copies of weights have started: `jobs`
// must then not depend on the kernel before, or have awaited it. `shared`: few_rows_shared_bytes(kTiles).
template <int kTiles, typename OutT, typename Jobs>
class FewRowsProducts {
 public:
  __device__ FewRowsProducts(const FewRowsShape& shape, const Jobs& jobs, uint4* shared)
      : shape_(shape), jobs_(jobs), jobs_to_copy_(jobs), shared_(shared) {
    num_steps_ = (shape.in_features + kFewRowsStep * kFewRowsWarps - 1) / (kFewRowsStep * kFewRowsWarps);
    has_copy_job_ = jobs_to_copy_.next(copy_job_);
  }

  __device__ void run() {
#pragma unroll
    for (int i = 0; i + 1 < kFewRowsStages; ++i) start_next_copy();
    await_previous_kernel();
    FewRowsJob<OutT> job;
    while (jobs_.next(job)) multiply(job);
    wait_for_copies<0>();
  }

 private:
  __device__ uint4* pieces(int stage) const {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    return shared_ + (stage * kFewRowsWarps + warp) * kFewRowsPieces * 32 + lane;
  }

  // One group of copies, also where there is nothing left.
  __device__ void start_next_copy() {
    if (has_copy_job_) {
      copy_few_rows_step(shape_, copy_job_.weight, copy_job_.first_column, copy_step_, pieces(copy_stage_));
      if (++copy_step_ == num_steps_) {
        copy_step_ = 0;
        has_copy_job_ = jobs_to_copy_.next(copy_job_);
      }
    }
    commit_copies();
    copy_stage_ = copy_stage_ + 1 == kFewRowsStages ? 0 : copy_stage_ + 1;
  }

  __device__ void multiply(const FewRowsJob<OutT>& job) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float sums[kTiles][4] = {};
    for (int step = 0; step < num_steps_; ++step) {
      const int warp_k = (warp + step * kFewRowsWarps) * kFewRowsStep;
      const int k = warp_k + lane % 4 * 8;
      uint4 values[kTiles][2];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const int row = tile * kFewRowsTile + lane / 4;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int at = k + half * 32;
          values[tile][half] = at < shape_.in_features && row < job.num_rows
                                   ? *reinterpret_cast<const uint4*>(job.x + row * shape_.x_stride + at)
                                   : uint4{0, 0, 0, 0};
        }
      }
      start_next_copy();
      wait_for_copies<kFewRowsStages - 1>();
      // A whole warp passes through each step, since mma needs all lanes.
      if (warp_k < shape_.in_features) {
        multiply_few_rows_step<kTiles>(shape_, values, k, pieces(stage_), sums);
      }
      stage_ = stage_ + 1 == kFewRowsStages ? 0 : stage_ + 1;
    }
    auto* partial = reinterpret_cast<float*>(shared_) + kFewRowsStages * kFewRowsStageBytes / 4;
    finish_few_rows<kTiles>(shape_, job, sums, partial);
  }

  FewRowsShape shape_;
  Jobs jobs_;
  Jobs jobs_to_copy_;
  uint4* shared_;
  FewRowsJob<OutT> copy_job_{};
  bool has_copy_job_ = false;
  int num_steps_ = 0;
  int copy_step_ = 0;
  int copy_stage_ = 0;
  int stage_ = 0;
};

// Blocks for `num_tiles` tiles of columns. What would be two waves of blocks is one, whose copies run on into
// its second tiles (batch 1: 1% of a step); in more waves blocks drift apart, and a block a tile is quicker
// (the head: 241 us against 251).
inline unsigned few_rows_grid(int64_t num_tiles) {
  const int64_t wave = int64_t{kFewRowsBlocks} * num_multiprocessors();
  return static_cast<unsigned>(num_tiles > 2 * wave ? num_tiles : std::min(num_tiles, wave));
}

}  // namespace nemoforge::ops
