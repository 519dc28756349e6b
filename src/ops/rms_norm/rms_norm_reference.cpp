#include <cmath>

#include "ops/element_access.h"
#include "ops/reference_backend.h"
#include "ops/rms_norm/rms_norm.h"

namespace nemoforge::ops {

void ReferenceBackend::rms_norm(const RmsNormArgs& args) {
  check(args);
  const int64_t hidden_size = args.x.size(1);
  for (int64_t row = 0; row < args.x.size(0); ++row) {
    double sum_of_squares = 0;
    for (int64_t i = 0; i < hidden_size; ++i) sum_of_squares += std::pow(load_element(args.x, row, i), 2);
    const double rms = std::sqrt(sum_of_squares / static_cast<double>(hidden_size) + args.epsilon);
    for (int64_t i = 0; i < hidden_size; ++i) {
      store_element(args.out, row, i, load_element(args.x, row, i) / rms * load_element(args.weight, i, 0));
    }
  }
}

void ReferenceBackend::add_rms_norm(const AddRmsNormArgs& args) {
  check(args);
  for (int64_t row = 0; row < args.residual.size(0); ++row) {
    for (int64_t i = 0; i < args.residual.size(1); ++i) {
      const double sum = load_element(args.residual, row, i) + load_element(args.delta, row, i);
      store_element(args.residual, row, i, sum);
    }
  }
  rms_norm({.x = args.residual, .weight = args.weight, .epsilon = args.epsilon, .out = args.out});
}

}  // namespace nemoforge::ops
