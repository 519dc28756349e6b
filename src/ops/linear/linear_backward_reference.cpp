#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

void ReferenceTrainingBackend::linear_backward(const LinearBackwardArgs& args) {
  check(args);
  const int64_t num_rows = args.d_out.size(0);
  const int64_t in_features = args.weight->in_features();
  const int64_t out_features = args.weight->out_features();
  for (int64_t row = 0; args.d_x && row < num_rows; ++row) {
    for (int64_t k = 0; k < in_features; ++k) {
      double sum = 0;
      for (int64_t n = 0; n < out_features; ++n) {
        sum += load_element(args.d_out, row, n) * load_element(args.weight->weight, n, k);
      }
      add_element(args.d_x, row, k, sum);
    }
  }
  for (int64_t n = 0; n < out_features; ++n) {
    for (int64_t k = 0; args.d_weight && k < in_features; ++k) {
      double sum = 0;
      for (int64_t row = 0; row < num_rows; ++row) {
        sum += load_element(args.d_out, row, n) * load_element(args.x, row, k);
      }
      add_element(args.d_weight, n, k, sum);
    }
    if (!args.d_bias) continue;
    double sum = 0;
    for (int64_t row = 0; row < num_rows; ++row) sum += load_element(args.d_out, row, n);
    add_element(args.d_bias, n, 0, sum);
  }
}

}  // namespace nemoforge::ops
