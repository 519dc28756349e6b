#include <vector>

#include "ops/cpu_backend.h"
#include "ops/linear/row_products.h"

namespace nemoforge::ops {

void CpuBackend::grouped_linear(const GroupedLinearArgs& args) {
  check(args);
  check_host_offsets(args);
  const int32_t* offsets = args.offsets.data<int32_t>();
  std::vector<RowProduct> products;
  for (size_t group = 0; group < args.weights.size(); ++group) {
    const int64_t num_rows = offsets[group + 1] - offsets[group];
    if (num_rows == 0) continue;
    products.push_back({.x = args.x.rows(offsets[group], num_rows),
                        .weight = args.weights[group].weight,
                        .bias = {},
                        .out = args.out.rows(offsets[group], num_rows)});
  }
  run_row_products(pool_, products);
}

}  // namespace nemoforge::ops
