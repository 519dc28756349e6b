#include <cmath>
#include <vector>

#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

void ReferenceTrainingBackend::gated_rms_norm_backward(const GatedRmsNormBackwardArgs& args) {
  check(args);
  const int64_t channels = args.y.size(1);
  const int64_t group_size = channels / args.num_groups;
  const auto count = static_cast<double>(group_size);
  std::vector<double> d_weight(static_cast<size_t>(channels));
  for (int64_t row = 0; row < args.y.size(0); ++row) {
    for (int64_t begin = 0; begin < channels; begin += group_size) {
      const auto sigmoid = [&](int64_t i) { return 1 / (1 + std::exp(-load_element(args.z, row, i))); };
      const auto gated = [&](int64_t i) {
        return load_element(args.y, row, i) * load_element(args.z, row, i) * sigmoid(i);
      };
      double squares = 0;
      double products = 0;
      for (int64_t i = begin; i < begin + group_size; ++i) {
        squares += gated(i) * gated(i);
        products += load_element(args.d_out, row, i) * load_element(args.weight, i) * gated(i);
      }
      const double r = 1 / std::sqrt(squares / count + static_cast<double>(args.epsilon));
      for (int64_t i = begin; i < begin + group_size; ++i) {
        const double y = load_element(args.y, row, i);
        const double z = load_element(args.z, row, i);
        const double s = sigmoid(i);
        const double d_out = load_element(args.d_out, row, i);
        const double d_g = r * d_out * load_element(args.weight, i) - r * r * r * gated(i) * products / count;
        add_element(args.d_y, row, i, d_g * z * s);
        add_element(args.d_z, row, i, d_g * y * s * (1 + z * (1 - s)));
        d_weight[static_cast<size_t>(i)] += d_out * gated(i) * r;
      }
    }
  }
  for (int64_t i = 0; args.d_weight && i < channels; ++i) {
    add_element(args.d_weight, i, 0, d_weight[static_cast<size_t>(i)]);
  }
}

}  // namespace nemoforge::ops
