#include "ops/rms_norm/rms_norm.h"

#include "ops/op_checks.h"

namespace nemoforge::ops {

void check(const RmsNormArgs& args) {
  NF_CHECK(args.x.shape().rank() == 2) << args.x.shape().to_string();
  const int64_t num_tokens = args.x.size(0);
  const int64_t hidden_size = args.x.size(1);
  NF_CHECK(hidden_size > 0 && args.epsilon >= 0) << hidden_size << ", epsilon " << args.epsilon;
  check_activation(args.x, num_tokens, hidden_size, "x");
  check_activation(args.out, num_tokens, hidden_size, "out");
  NF_CHECK(is_parameter(args.weight) && args.weight.shape() == Shape{hidden_size})
      << args.weight.shape().to_string();
  check_same_or_disjoint(args.x, args.out, "x and out");
}

void check(const AddRmsNormArgs& args) {
  NF_CHECK(args.residual.shape().rank() == 2) << args.residual.shape().to_string();
  const int64_t num_tokens = args.residual.size(0);
  const int64_t hidden_size = args.residual.size(1);
  NF_CHECK(hidden_size > 0 && args.epsilon >= 0) << hidden_size << ", epsilon " << args.epsilon;
  check_activation(args.residual, num_tokens, hidden_size, "residual");
  check_activation(args.delta, num_tokens, hidden_size, "delta");
  check_activation(args.out, num_tokens, hidden_size, "out");
  NF_CHECK(is_parameter(args.weight) && args.weight.shape() == Shape{hidden_size})
      << args.weight.shape().to_string();
  check_disjoint(args.residual, args.delta, "residual and delta");
  check_disjoint(args.residual, args.out, "residual and out");
  check_same_or_disjoint(args.delta, args.out, "delta and out");
}

}  // namespace nemoforge::ops
