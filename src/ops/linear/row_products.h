// The matrix products of the CPU backend: out = x W^T with W as the checkpoint stores it, row-major
// [out, in], read in place.
//
// One kernel family for every number of rows. An element is a dot product along in_features: fp32 lanes take
// every L-th product in turn, and the lanes are added in a fixed tree. Tiles of rows and outputs share loads
// but not sums, so that an element's bits depend on its row of x and its row of W alone; neither the number
// of rows, nor their grouping, nor the number of threads matters, and decode gives the bits of prefill.
#pragma once

#include <span>

#include "base/thread_pool.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// out = x weight^T (+ bias), or out += scale * x weight^T. One rounding to the dtype of `out`.
struct RowProduct {
  ConstTensorView x;       // [num_rows, in_features] f32 or bf16, row stride free
  ConstTensorView weight;  // [out_features, in_features] f32, bf16 or f16, contiguous
  ConstTensorView bias;    // [out_features] f32, bf16 or f16; absent for none
  TensorView out;          // [num_rows, out_features] f32 or bf16, row stride free
  bool accumulate = false;
  float scale = 1;  // used where accumulate
};

// Computes all products, whose outputs do not overlap, with the pool's threads (or on the caller's, where the
// work is too little to share).
void run_row_products(ThreadPool& pool, std::span<const RowProduct> products);

}  // namespace nemoforge::ops
