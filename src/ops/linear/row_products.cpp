#include "ops/linear/row_products.h"

#include <algorithm>
#include <vector>

#include "base/integers.h"
#include "ops/linear/dot_block.h"

namespace nemoforge::ops {
namespace {

// Blocks of a product: outputs and rows that one task computes.
struct Blocking {
  int64_t block_outs = 0;
  int64_t block_rows = 0;
};

struct Grid {
  const RowProduct* product = nullptr;
  DotBlockFunction function = nullptr;
  int64_t row_blocks = 0;
  int64_t first_task = 0;
};

// Less work than this, in bytes of weights plus a share of the arithmetic, runs on the caller's thread.
constexpr int64_t kMinSharedWork = 64 << 10;

int64_t work_of(const RowProduct& product) {
  // A row's arithmetic on a weight takes about as long as reading an eighth of the weight from memory.
  const int64_t weight_bytes = product.weight.numel() * dtype_bytes(product.weight.dtype());
  return weight_bytes + weight_bytes * product.x.size(0) / 8;
}

template <typename Void>
auto offset(Void* data, int64_t elements, DType dtype) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
  return static_cast<Byte*>(data) + elements * dtype_bytes(dtype);
}

void run_block(const Grid& grid, const Blocking& blocking, int64_t block_idx) {
  const RowProduct& product = *grid.product;
  // Neighbouring tasks share their weights.
  const int64_t first_row = block_idx % grid.row_blocks * blocking.block_rows;
  const int64_t first_out = block_idx / grid.row_blocks * blocking.block_outs;
  DotBlock block;
  block.x = offset(product.x.raw(), first_row * product.x.row_stride(), product.x.dtype());
  block.x_stride = product.x.row_stride();
  block.num_rows = std::min(blocking.block_rows, product.x.size(0) - first_row);
  block.in_features = product.weight.size(1);
  block.weight = offset(product.weight.raw(), first_out * block.in_features, product.weight.dtype());
  block.num_outs = std::min(blocking.block_outs, product.weight.size(0) - first_out);
  if (product.bias) {
    block.bias = offset(product.bias.raw(), first_out, product.bias.dtype());
    block.bias_dtype = product.bias.dtype();
  }
  block.out_stride = product.out.row_stride();
  block.out_dtype = product.out.dtype();
  block.out = offset(product.out.raw(), first_row * block.out_stride + first_out, block.out_dtype);
  block.accumulate = product.accumulate;
  block.scale = product.scale;
  grid.function(block);
}

}  // namespace

void run_row_products(ThreadPool& pool, std::span<const RowProduct> products) {
  int64_t work = 0;
  for (const RowProduct& product : products) work += work_of(product);
  const bool shared = work >= kMinSharedWork && pool.num_threads() > 1;
  const Blocking blocking = shared ? Blocking{64, 256} : Blocking{int64_t{1} << 40, int64_t{1} << 40};

  std::vector<Grid> grids;
  grids.reserve(products.size());
  int64_t num_tasks = 0;
  for (const RowProduct& product : products) {
    if (product.x.size(0) == 0 || product.weight.size(0) == 0) continue;
    const int64_t row_blocks = ceil_div(product.x.size(0), blocking.block_rows);
    grids.push_back(
        {&product, choose_dot_block(product.x.dtype(), product.weight.dtype()), row_blocks, num_tasks});
    num_tasks += row_blocks * ceil_div(product.weight.size(0), blocking.block_outs);
  }
  if (!shared) {
    for (const Grid& grid : grids) run_block(grid, blocking, 0);
    return;
  }
  pool.parallel_for(num_tasks, [&](int64_t task_idx, int) {
    const auto grid =
        std::prev(std::upper_bound(grids.begin(), grids.end(), task_idx,
                                   [](int64_t task, const Grid& g) { return task < g.first_task; }));
    run_block(*grid, blocking, task_idx - grid->first_task);
  });
}

}  // namespace nemoforge::ops
