#include "ops/element_access.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {

void ReferenceBackend::relu2(const Relu2Args& args) {
  check(args);
  for (int64_t row = 0; row < args.x.size(0); ++row) {
    for (int64_t column = 0; column < args.x.size(1); ++column) {
      const double value = load_element(args.x, row, column);
      const double rectified = value < 0 ? 0 : value;  // NaN is not below 0
      store_element(args.out, row, column, rectified * rectified);
    }
  }
}

}  // namespace nemoforge::ops
