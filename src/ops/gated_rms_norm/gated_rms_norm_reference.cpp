#include <cmath>
#include <vector>

#include "ops/element_access.h"
#include "ops/gated_rms_norm/gated_rms_norm.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {

void ReferenceBackend::gated_rms_norm(const GatedRmsNormArgs& args) {
  check(args);
  const int64_t group_size = args.y.size(1) / args.num_groups;
  std::vector<double> gated(static_cast<size_t>(group_size));
  for (int64_t row = 0; row < args.y.size(0); ++row) {
    for (int64_t begin = 0; begin < args.y.size(1); begin += group_size) {
      double sum_of_squares = 0;
      for (int64_t i = 0; i < group_size; ++i) {
        const double z = load_element(args.z, row, begin + i);
        gated[static_cast<size_t>(i)] = load_element(args.y, row, begin + i) * z / (1 + std::exp(-z));
        sum_of_squares += std::pow(gated[static_cast<size_t>(i)], 2);
      }
      const double rms = std::sqrt(sum_of_squares / static_cast<double>(group_size) + args.epsilon);
      for (int64_t i = 0; i < group_size; ++i) {
        store_element(args.out, row, begin + i,
                      gated[static_cast<size_t>(i)] / rms * load_element(args.weight, begin + i, 0));
      }
    }
  }
}

}  // namespace nemoforge::ops
