#include "ops/cpu_backend.h"
#include "ops/linear/row_products.h"

namespace nemoforge::ops {

void CpuBackend::linear(const LinearArgs& args) {
  check(args);
  const RowProduct product = {
      .x = args.x, .weight = args.weight->weight, .bias = args.weight->bias, .out = args.out};
  run_row_products(pool_, {&product, 1});
}

}  // namespace nemoforge::ops
