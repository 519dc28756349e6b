#include "ops/element_access.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {

void ReferenceTrainingBackend::grouped_linear_backward(const GroupedLinearBackwardArgs& args) {
  check_with_host_offsets(args);
  const int32_t* offsets = args.offsets.data<int32_t>();
  for (size_t group = 0; group < args.weights.size(); ++group) {
    const int64_t begin = offsets[group];
    const int64_t num_rows = offsets[group + 1] - begin;
    linear_backward({.x = args.x.rows(begin, num_rows),
                     .weight = &args.weights[group],
                     .d_out = args.d_out.rows(begin, num_rows),
                     .d_x = args.d_x.rows(begin, num_rows),
                     .d_weight = args.d_weights.empty() ? TensorView() : args.d_weights[group],
                     .d_bias = {}});
  }
}

}  // namespace nemoforge::ops
