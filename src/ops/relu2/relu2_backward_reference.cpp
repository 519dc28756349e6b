#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

void ReferenceTrainingBackend::relu2_backward(const Relu2BackwardArgs& args) {
  check(args);
  for (int64_t row = 0; row < args.x.size(0); ++row) {
    for (int64_t i = 0; i < args.x.size(1); ++i) {
      const double x = load_element(args.x, row, i);
      add_element(args.d_x, row, i, 2 * (x < 0 ? 0 : x) * load_element(args.d_out, row, i));
    }
  }
}

}  // namespace nemoforge::ops
