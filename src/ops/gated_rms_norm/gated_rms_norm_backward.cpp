#include "ops/gated_rms_norm/gated_rms_norm_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const GatedRmsNormBackwardArgs& args) {
  NF_CHECK(args.y && args.y.shape().rank() == 2);
  const int64_t num_rows = args.y.size(0);
  const int64_t channels = args.y.size(1);
  NF_CHECK(args.num_groups > 0 && channels % args.num_groups == 0) << channels << ", " << args.num_groups;
  const DType dtype = activation_dtype(args.z, "z");
  check_f32_matrix(args.y, num_rows, channels, "y");
  check_matrix(args.z, dtype, num_rows, channels, "z");
  check_matrix(args.d_out, dtype, num_rows, channels, "d_out");
  check_matrix(args.d_y, dtype, num_rows, channels, "d_y");
  check_matrix(args.d_z, dtype, num_rows, channels, "d_z");
  NF_CHECK(is_parameter(args.weight) && (args.weight.shape() == Shape{channels}));
  check_optional_f32(args.d_weight, {channels}, "d_weight");
  check_disjoint(args.d_y, args.d_out, "d_y and d_out");
  check_disjoint(args.d_y, args.y, "d_y and y");
  check_disjoint(args.d_z, args.z, "d_z and z");
  check_disjoint(args.d_y, args.d_z, "d_y and d_z");
}

}  // namespace nemoforge::ops
