#include <algorithm>
#include <vector>

#include "ops/cpu_backend.h"
#include "ops/linear/row_products.h"
#include "ops/scratch.h"

namespace nemoforge::ops {

// Two batches of products, all runs in each: x A^T into fp32 scratch, then its product with B^T onto out.
void CpuBackend::lora_add(const LoraAddArgs& args) {
  check(args);
  if (args.offsets) {
    const std::vector<LoraRun> runs = runs_at(args.offsets, args.runs);
    return lora_add({.x = args.x, .runs = runs, .out = args.out});
  }
  int64_t max_rank = 0;
  for (const LoraRun& run : args.runs) max_rank = std::max(max_rank, run.weight->a.size(0));
  const int64_t num_rows = args.x.size(0);
  if (max_rank == 0 || num_rows == 0) return;
  const Shape low_shape{num_rows, max_rank};
  const TensorView low(thread_scratch(num_rows * max_rank), low_shape);

  std::vector<RowProduct> down;
  std::vector<RowProduct> up;
  for (const LoraRun& run : args.runs) {
    const int64_t count = run.end - run.begin;
    const TensorView low_rows = low.rows(run.begin, count).columns(0, run.weight->a.size(0));
    down.push_back(
        {.x = args.x.rows(run.begin, count), .weight = run.weight->a, .bias = {}, .out = low_rows});
    up.push_back({.x = low_rows,
                  .weight = run.weight->b,
                  .bias = {},
                  .out = args.out.rows(run.begin, count),
                  .accumulate = true,
                  .scale = run.weight->scale});
  }
  run_row_products(pool_, down);
  run_row_products(pool_, up);
}

}  // namespace nemoforge::ops
