#include <vector>

#include "ops/cpu_training_backend.h"
#include "ops/linear/gradient_products.h"

namespace nemoforge::ops {

void CpuTrainingBackend::grouped_linear_backward(const GroupedLinearBackwardArgs& args) {
  check_with_host_offsets(args);
  const int32_t* offsets = args.offsets.data<int32_t>();
  std::vector<GradientProduct> products;
  for (size_t group = 0; group < args.weights.size(); ++group) {
    const int64_t begin = offsets[group];
    const int64_t num_rows = offsets[group + 1] - begin;
    if (num_rows == 0) continue;
    const ConstTensorView d_out = args.d_out.rows(begin, num_rows);
    products.push_back(product_of(d_out, args.weights[group].weight, args.d_x.rows(begin, num_rows)));
    if (args.d_weights.empty()) continue;
    products.push_back(transposed_product_of(d_out, args.x.rows(begin, num_rows), args.d_weights[group]));
  }
  run_gradient_products(pool_, products);
}

}  // namespace nemoforge::ops
