// The products with low-rank pairs, all runs of rows of a call in one launch: of the forward pass over many
// rows, and of the backward pass.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <cuda_runtime.h>

#include "ops/lora/lora.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

constexpr int kMaxLoraTableRuns = 128;
constexpr int kLoraRankChunk = 16;  // components that a kernel has in registers at once

// One run, in the memory of a kernel's parameters.
struct LoraTableRun {
  const void* a = nullptr;  // [rank, in_features] f32 or bf16
  const void* b = nullptr;  // [out_features, rank] f32 or bf16
  float* d_a = nullptr;     // like a, f32; null in the forward pass
  float* d_b = nullptr;
  int begin = 0;
  int end = 0;
  float scale = 1;
  int rank = 0;
  bool a_is_bf16 = false;
  bool b_is_bf16 = false;
};

// Runs of one launch. With offsets (device memory, [num_runs + 1]) run i has rows offsets[i] .. offsets[i +
// 1]
// - 1 in place of begin and end.
struct LoraTable {
  LoraTableRun runs[kMaxLoraTableRuns];
  const int32_t* offsets = nullptr;
  int num_runs = 0;
  int max_rank = 0;
  int64_t max_rows = 0;  // of all runs together
};

// Which factor of the pair.
enum class LoraFactor { kA, kB };

// The tables of all runs; `offsets` [runs.size() + 1] i32 in device memory, or absent. num_rows: of the
// call's matrices.
[[nodiscard]] std::vector<LoraTable> lora_tables(std::span<const LoraRun> runs,
                                                 const ConstTensorView& offsets, int64_t num_rows);

// Elements from a row of `low` to the next: the rank in whole chunks.
[[nodiscard]] int64_t lora_low_stride(int64_t max_rank);

// low = scale * rows A^T, or scale * rows B; low [num_rows, lora_low_stride] f32.
void lora_shrink(const LoraTable& table, LoraFactor factor, const ConstTensorView& rows, float* low,
                 int64_t low_stride, cudaStream_t stream);
// out += low B^T, or low A. dtype: of the activations, whose rounding says how exact the products have to be;
// out itself may be f32 all the same.
void lora_expand(const LoraTable& table, LoraFactor factor, const float* low, int64_t low_stride, DType dtype,
                 const TensorView& out, cudaStream_t stream);

// Bytes of memory that lora_gradient needs for rows of this many features.
[[nodiscard]] int64_t lora_gradient_bytes(const LoraTable& table, int64_t num_features);
// d_a += low^T rows, or d_b += rows^T low. Sums over a run in pieces of rows, then over the pieces in order.
void lora_gradient(const LoraTable& table, LoraFactor factor, const float* low, int64_t low_stride,
                   const ConstTensorView& rows, float* memory, cudaStream_t stream);

}  // namespace nemoforge::ops
