#include "ops/linear/row_products.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <type_traits>
#include <vector>

#include "base/integers.h"
#include "ops/linear/dot_block.h"

namespace nemoforge::ops {
namespace {

// Outputs and rows of a product that one task computes.
struct Blocking {
  int64_t outs = 0;
  int64_t rows = 0;
};

// A product cut into blocks: block_idx / row_blocks counts along the outputs, block_idx % row_blocks along
// the rows, so that neighbouring tasks share their weights.
struct Grid {
  const RowProduct* product = nullptr;
  DotBlockFunction function = nullptr;
  int64_t row_blocks = 0;
  int64_t first_task = 0;
};

// Less work than this runs on the caller's thread: 32 KB of weights take 1 to 2 us from the second-level
// cache, and a fork takes 0.5 us with the worker awake (Zen 4, 2026).
constexpr int64_t kMinSharedWork = 32 << 10;

// In bytes of weights; the arithmetic of eight rows takes about as long as reading the weights once.
int64_t work_of(const RowProduct& product) {
  const int64_t weight_bytes = product.weight.numel() * dtype_bytes(product.weight.dtype());
  return weight_bytes + weight_bytes * product.x.size(0) / 8;
}

int64_t num_blocks(const RowProduct& product, const Blocking& blocking) {
  return ceil_div(product.weight.size(0), blocking.outs) * ceil_div(product.x.size(0), blocking.rows);
}

// Blocks of at least 64 KB of weights, so that a core streams through memory for a while; smaller ones where
// there would be too few to share evenly. The choice does not touch any sum.
Blocking choose_blocking(std::span<const RowProduct> products, int num_threads) {
  constexpr int64_t kBlockBytes = 64 << 10;
  const RowProduct& first = products[0];
  const int64_t row_bytes = std::max<int64_t>(1, first.weight.size(1) * dtype_bytes(first.weight.dtype()));
  Blocking blocking{std::clamp<int64_t>(kBlockBytes / row_bytes / 64 * 64, 64, 512), 256};
  const auto is_enough = [&] {
    int64_t total = 0;
    for (const RowProduct& product : products) total += num_blocks(product, blocking);
    return total >= 8 * int64_t{num_threads};
  };
  while (blocking.outs > 16 && !is_enough()) blocking.outs /= 2;
  return blocking;
}

template <typename Void>
Void* advance(Void* data, int64_t elements, DType dtype) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const std::byte, std::byte>;
  return static_cast<Byte*>(data) + elements * dtype_bytes(dtype);
}

void run_block(const Grid& grid, const Blocking& blocking, int64_t block_idx) {
  const RowProduct& product = *grid.product;
  const int64_t first_row = block_idx % grid.row_blocks * blocking.rows;
  const int64_t first_out = block_idx / grid.row_blocks * blocking.outs;
  DotBlock block;
  block.x = advance(product.x.raw(), first_row * product.x.row_stride(), product.x.dtype());
  block.x_stride = product.x.row_stride();
  block.num_rows = std::min(blocking.rows, product.x.size(0) - first_row);
  block.in_features = product.weight.size(1);
  block.weight = advance(product.weight.raw(), first_out * block.in_features, product.weight.dtype());
  block.num_outs = std::min(blocking.outs, product.weight.size(0) - first_out);
  block.num_following_outs = product.weight.size(0) - first_out - block.num_outs;
  if (product.bias) {
    block.bias = advance(product.bias.raw(), first_out, product.bias.dtype());
    block.bias_dtype = product.bias.dtype();
  }
  block.out_stride = product.out.row_stride();
  block.out_dtype = product.out.dtype();
  block.out = advance(product.out.raw(), first_row * block.out_stride + first_out, block.out_dtype);
  block.accumulate = product.accumulate;
  block.scale = product.scale;
  grid.function(block);
}

}  // namespace

void run_row_products(ThreadPool& pool, std::span<const RowProduct> products) {
  int64_t work = 0;
  for (const RowProduct& product : products) work += work_of(product);
  const bool is_shared = work >= kMinSharedWork && pool.num_threads() > 1;
  constexpr int64_t kAll = int64_t{1} << 40;
  const Blocking blocking = is_shared ? choose_blocking(products, pool.num_threads()) : Blocking{kAll, kAll};

  std::vector<Grid> grids;
  grids.reserve(products.size());
  int64_t num_tasks = 0;
  for (const RowProduct& product : products) {
    if (num_blocks(product, blocking) == 0) continue;
    grids.push_back({&product, choose_dot_block(product.x.dtype(), product.weight.dtype()),
                     ceil_div(product.x.size(0), blocking.rows), num_tasks});
    num_tasks += num_blocks(product, blocking);
  }
  const auto task = [&](int64_t task_idx, int /*thread_idx*/) {
    const auto after = std::upper_bound(grids.begin(), grids.end(), task_idx,
                                        [](int64_t idx, const Grid& grid) { return idx < grid.first_task; });
    const Grid& grid = *std::prev(after);
    run_block(grid, blocking, task_idx - grid.first_task);
  };
  if (is_shared) {
    pool.parallel_for(num_tasks, std::ref(task));  // a reference fits std::function without allocation
  } else {
    for (int64_t task_idx = 0; task_idx < num_tasks; ++task_idx) task(task_idx, 0);
  }
}

}  // namespace nemoforge::ops
