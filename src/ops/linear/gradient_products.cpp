#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/linear/gradient_products.cpp"
#include "ops/linear/gradient_products.h"

#include <algorithm>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/check.h"
#include "base/integers.h"
#include "ops/dtype_dispatch.h"
#include "ops/scratch.h"
#include "ops/small_matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Rows and columns of a task, and the depth of the block of b that is packed at a time: 256 KiB, which stay
// in the second-level cache while the task's rows pass over them.
constexpr int64_t kRowsPerTask = 128;
constexpr int64_t kColumnsPerTask = 256;
constexpr int64_t kDepth = 256;

// Rows [k, k + depth) and columns [column, column + count) of b as fp32, with rows kColumnsPerTask apart.
void pack(const ConstTensorView& b, int64_t k, int64_t depth, int64_t column, int64_t count, float* packed) {
  dispatch_weight(b.dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    for (int64_t i = 0; i < depth; ++i) {
      convert(b.data<T>() + (k + i) * b.row_stride() + column, packed + i * kColumnsPerTask, count);
    }
  });
}

// The block of c at (row, column); `packed` has kDepth rows of kColumnsPerTask.
void product_block(const GradientProduct& product, int64_t row, int64_t column, float* packed) {
  const int64_t num_rows = std::min(kRowsPerTask, product.c.size(0) - row);
  const int64_t num_columns = std::min(kColumnsPerTask, product.c.size(1) - column);
  float* c = product.c.data<float>() + row * product.c.row_stride() + column;
  for (int64_t k = 0; k < product.b.size(0); k += kDepth) {
    const int64_t depth = std::min(kDepth, product.b.size(0) - k);
    pack(product.b, k, depth, column, num_columns, packed);
    const float* a = product.a + row * product.a_row_stride + k * product.a_column_stride;
    matmul_add({a, product.a_row_stride, product.a_column_stride}, packed, kColumnsPerTask, c,
               product.c.row_stride(), num_rows, num_columns, depth);
  }
}

// What the caller needs to know of the sizes above: rows and columns of a task, floats of `packed`.
void product_sizes(int64_t* sizes) {
  sizes[0] = kRowsPerTask;
  sizes[1] = kColumnsPerTask;
  sizes[2] = kDepth * kColumnsPerTask;
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(product_block);
HWY_EXPORT(product_sizes);

GradientProduct product_of(const ConstTensorView& a, const ConstTensorView& b, const TensorView& c) {
  NF_CHECK(a.size(0) == c.size(0) && a.size(1) == b.size(0) && b.size(1) == c.size(1))
      << a.shape().to_string() << ' ' << b.shape().to_string() << ' ' << c.shape().to_string();
  return {a.data<float>(), a.row_stride(), 1, b, c};
}

GradientProduct transposed_product_of(const ConstTensorView& a, const ConstTensorView& b,
                                      const TensorView& c) {
  NF_CHECK(a.size(1) == c.size(0) && a.size(0) == b.size(0) && b.size(1) == c.size(1))
      << a.shape().to_string() << ' ' << b.shape().to_string() << ' ' << c.shape().to_string();
  return {a.data<float>(), 1, a.row_stride(), b, c};
}

void run_gradient_products(ThreadPool& pool, std::span<const GradientProduct> products) {
  struct Block {
    const GradientProduct* product;
    int64_t row;
    int64_t column;
  };
  int64_t sizes[3];
  HWY_DYNAMIC_DISPATCH(product_sizes)(sizes);
  std::vector<Block> blocks;
  for (const GradientProduct& product : products) {
    if (product.b.size(0) == 0) continue;
    for (int64_t column = 0; column < product.c.size(1); column += sizes[1]) {
      for (int64_t row = 0; row < product.c.size(0); row += sizes[0])
        blocks.push_back({&product, row, column});
    }
  }
  if (blocks.empty()) return;
  float* scratch = thread_scratch(pool.num_threads() * sizes[2]);
  // The columns beyond a narrow block are read by whole vectors; their sums are not kept.
  std::fill_n(scratch, pool.num_threads() * sizes[2], 0.0f);
  pool.parallel_for(static_cast<int64_t>(blocks.size()), [&](int64_t task_idx, int thread_idx) {
    const Block& block = blocks[static_cast<size_t>(task_idx)];
    HWY_DYNAMIC_DISPATCH(product_block)
    (*block.product, block.row, block.column, scratch + thread_idx * sizes[2]);
  });
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
