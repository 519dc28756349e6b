#include <vector>

#include "ops/cpu_training_backend.h"
#include "ops/linear/gradient_products.h"

namespace nemoforge::ops {

void CpuTrainingBackend::linear_backward(const LinearBackwardArgs& args) {
  check(args);
  std::vector<GradientProduct> products;
  if (args.d_x) products.push_back(product_of(args.d_out, args.weight->weight, args.d_x));
  if (args.d_weight) products.push_back(transposed_product_of(args.d_out, args.x, args.d_weight));
  run_gradient_products(pool_, products);
  if (!args.d_bias) return;
  float* d_bias = args.d_bias.data<float>();
  for (int64_t row = 0; row < args.d_out.size(0); ++row) {
    const float* d_out = args.d_out.data<float>() + row * args.d_out.row_stride();
    for (int64_t n = 0; n < args.d_out.size(1); ++n) d_bias[n] += d_out[n];
  }
}

}  // namespace nemoforge::ops
