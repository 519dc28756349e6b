#include "ops/causal_conv1d/causal_conv1d_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const CausalConv1dBackwardArgs& args) {
  NF_CHECK(args.rows != nullptr);
  check(*args.rows);
  NF_CHECK(is_parameter(args.weight) && args.weight.shape().rank() == 2);
  const int64_t num_tokens = args.rows->num_tokens;
  const int64_t channels = args.weight.size(0);
  const int64_t conv_kernel = args.weight.size(1);
  NF_CHECK(conv_kernel >= 2 && conv_kernel <= 8) << conv_kernel;
  NF_CHECK(!args.bias || (is_parameter(args.bias) && (args.bias.shape() == Shape{channels})));
  const DType dtype = activation_dtype(args.x, "x");
  check_matrix(args.x, dtype, num_tokens, channels, "x");
  check_matrix(args.d_out, dtype, num_tokens, channels, "d_out");
  check_matrix(args.d_x, dtype, num_tokens, channels, "d_x");
  check_optional_f32(args.d_weight, {channels, conv_kernel}, "d_weight");
  check_optional_f32(args.d_bias, {channels}, "d_bias");
  check_disjoint(args.d_x, args.x, "d_x and x");
  check_disjoint(args.d_x, args.d_out, "d_x and d_out");
}

}  // namespace nemoforge::ops
