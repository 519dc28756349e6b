#include <cmath>
#include <vector>

#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

void ReferenceTrainingBackend::rms_norm_backward(const RmsNormBackwardArgs& args) {
  check(args);
  const int64_t size = args.x.size(1);
  std::vector<double> d_weight(static_cast<size_t>(size));
  for (int64_t row = 0; row < args.x.size(0); ++row) {
    double squares = 0;
    double products = 0;
    for (int64_t i = 0; i < size; ++i) {
      const double x = load_element(args.x, row, i);
      squares += x * x;
      products += load_element(args.d_out, row, i) * load_element(args.weight, i) * x;
    }
    const auto count = static_cast<double>(size);
    const double r = 1 / std::sqrt(squares / count + static_cast<double>(args.epsilon));
    for (int64_t i = 0; i < size; ++i) {
      const double x = load_element(args.x, row, i);
      const double d_out = load_element(args.d_out, row, i);
      add_element(args.d_x, row, i,
                  r * d_out * load_element(args.weight, i) - r * r * r * x * products / count);
      d_weight[static_cast<size_t>(i)] += d_out * x * r;
    }
  }
  for (int64_t i = 0; args.d_weight && i < size; ++i) {
    add_element(args.d_weight, i, 0, d_weight[static_cast<size_t>(i)]);
  }
}

}  // namespace nemoforge::ops
