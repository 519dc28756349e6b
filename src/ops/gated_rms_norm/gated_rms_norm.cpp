#include "ops/gated_rms_norm/gated_rms_norm.h"

#include "ops/op_checks.h"

namespace nemoforge::ops {

void check(const GatedRmsNormArgs& args) {
  NF_CHECK(args.y.shape().rank() == 2) << args.y.shape().to_string();
  const int64_t num_tokens = args.y.size(0);
  const int64_t channels = args.y.size(1);
  NF_CHECK(args.num_groups > 0 && channels > 0 && channels % args.num_groups == 0 && args.epsilon >= 0)
      << channels << " channels, " << args.num_groups << " groups, epsilon " << args.epsilon;
  check_activation(args.y, num_tokens, channels, "y");
  check_activation(args.z, num_tokens, channels, "z");
  check_activation(args.out, num_tokens, channels, "out");
  NF_CHECK(is_parameter(args.weight) && args.weight.shape() == Shape{channels})
      << args.weight.shape().to_string();
  check_same_or_disjoint(args.y, args.out, "y and out");
  check_disjoint(args.z, args.out, "z and out");
}

}  // namespace nemoforge::ops
