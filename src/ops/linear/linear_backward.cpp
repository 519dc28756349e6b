#include "ops/linear/linear_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const LinearBackwardArgs& args) {
  NF_CHECK(args.weight != nullptr);
  check(*args.weight);
  const int64_t in_features = args.weight->in_features();
  const int64_t out_features = args.weight->out_features();
  const int64_t num_rows = args.d_out.size(0);
  const DType dtype = activation_dtype(args.x, "x");
  check_matrix(args.x, dtype, num_rows, in_features, "x");
  check_matrix_or_f32(args.d_out, dtype, num_rows, out_features, "d_out");
  if (args.d_x) check_matrix_or_f32(args.d_x, dtype, num_rows, in_features, "d_x");
  check_optional_f32(args.d_weight, {out_features, in_features}, "d_weight");
  check_optional_f32(args.d_bias, {out_features}, "d_bias");
  check_disjoint(args.d_x, args.x, "d_x and x");
  check_disjoint(args.d_x, args.d_out, "d_x and d_out");
}

}  // namespace nemoforge::ops
