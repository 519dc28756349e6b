#include "ops/rms_norm/rms_norm_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const RmsNormBackwardArgs& args) {
  NF_CHECK(args.x && args.x.shape().rank() == 2);
  const int64_t num_rows = args.x.size(0);
  const int64_t size = args.x.size(1);
  check_f32_matrix(args.x, num_rows, size, "x");
  check_matrix(args.d_out, activation_dtype(args.d_out, "d_out"), num_rows, size, "d_out");
  check_f32_matrix(args.d_x, num_rows, size, "d_x");
  NF_CHECK(is_parameter(args.weight) && (args.weight.shape() == Shape{size}));
  check_optional_f32(args.d_weight, {size}, "d_weight");
  check_disjoint(args.d_x, args.x, "d_x and x");
  check_disjoint(args.d_x, args.d_out, "d_x and d_out");
}

}  // namespace nemoforge::ops
