#include "ops/element_access.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {

void ReferenceBackend::linear(const LinearArgs& args) {
  check(args);
  const LinearWeight& weight = *args.weight;
  for (int64_t row = 0; row < args.x.size(0); ++row) {
    for (int64_t n = 0; n < weight.out_features(); ++n) {
      double sum = weight.bias ? load_element(weight.bias, n) : 0;
      for (int64_t k = 0; k < weight.in_features(); ++k) {
        sum += load_element(args.x, row, k) * load_element(weight.weight, n, k);
      }
      store_element(args.out, row, n, sum);
    }
  }
}

}  // namespace nemoforge::ops
