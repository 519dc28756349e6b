// The matrix products of the CPU's backward passes: c += a b, where a may be read transposed.
//
// An element is one sum over k in order that begins with what c holds: its bits depend on its row of a and
// its column of b alone, not on the number of rows, tiles or threads.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

struct GradientProduct {
  const float* a = nullptr;  // element (i, k) is a[i * a_row_stride + k * a_column_stride]
  int64_t a_row_stride = 0;
  int64_t a_column_stride = 1;
  ConstTensorView b;  // [k_size, num_columns] f32, bf16 or f16, row stride free
  TensorView c;       // [num_rows, num_columns] f32, row stride free, added to; does not overlap a or b
};

// c += a b, with a [num_rows, k_size] f32.
[[nodiscard]] GradientProduct product_of(const ConstTensorView& a, const ConstTensorView& b,
                                         const TensorView& c);
// c += a^T b, with a [k_size, num_rows] f32.
[[nodiscard]] GradientProduct transposed_product_of(const ConstTensorView& a, const ConstTensorView& b,
                                                    const TensorView& c);

// Computes all products, whose outputs do not overlap, with the pool's threads. Uses thread_scratch.
void run_gradient_products(ThreadPool& pool, std::span<const GradientProduct> products);

}  // namespace nemoforge::ops
