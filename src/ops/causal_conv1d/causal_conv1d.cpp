#include "ops/causal_conv1d/causal_conv1d.h"

#include "ops/op_checks.h"

namespace nemoforge::ops {

void check(const CausalConv1dArgs& args) {
  NF_CHECK(args.rows != nullptr);
  check(*args.rows);
  NF_CHECK(args.weight.shape().rank() == 2 && is_parameter(args.weight)) << args.weight.shape().to_string();
  const int64_t channels = args.weight.size(0);
  const int64_t conv_kernel = args.weight.size(1);
  NF_CHECK(channels > 0 && conv_kernel >= 2 && conv_kernel <= 8) << args.weight.shape().to_string();
  NF_CHECK(!args.bias || (is_parameter(args.bias) && args.bias.shape() == Shape{channels}))
      << args.bias.shape().to_string();
  check_activation(args.x, args.rows->num_tokens, channels, "x");
  check_activation(args.out, args.rows->num_tokens, channels, "out");
  check_disjoint(args.x, args.out, "x and out");
  if (args.conv_state) {
    NF_CHECK(args.rows->state_slots) << "conv_state without state_slots";
    NF_CHECK(args.conv_state.shape().rank() == 3 && args.conv_state.is_contiguous() &&
             args.conv_state.size(1) == conv_kernel - 1 && args.conv_state.size(2) == channels &&
             args.conv_state.dtype() == args.x.dtype())
        << args.conv_state.shape().to_string() << ' ' << dtype_name(args.conv_state.dtype());
  }
}

}  // namespace nemoforge::ops
