#include "ops/ssd_scan/ssd_scan.h"

#include "ops/op_checks.h"

namespace nemoforge::ops {
namespace {

void check_head_parameter(const ConstTensorView& view, int64_t num_heads, const char* name) {
  NF_CHECK(view && view.dtype() == DType::kF32 && view.is_contiguous() && view.shape() == Shape{num_heads})
      << name << ' ' << view.shape().to_string();
}

}  // namespace

void check(const SsdScanArgs& args) {
  NF_CHECK(args.rows != nullptr);
  check(*args.rows);
  NF_CHECK(args.num_heads > 0 && args.num_groups > 0 && args.num_heads % args.num_groups == 0 &&
           args.head_dim > 0 && args.state_size > 0 && args.chunk_size > 0)
      << args.num_heads << " heads of " << args.head_dim << ", " << args.num_groups << " groups of state "
      << args.state_size << ", chunk " << args.chunk_size;
  const int64_t num_tokens = args.rows->num_tokens;
  check_activation(args.x, num_tokens, args.num_heads * args.head_dim, "x");
  check_activation(args.b, num_tokens, args.num_groups * args.state_size, "b");
  check_activation(args.c, num_tokens, args.num_groups * args.state_size, "c");
  check_activation(args.dt_raw, num_tokens, args.num_heads, "dt_raw");
  check_activation(args.y, num_tokens, args.num_heads * args.head_dim, "y");
  check_head_parameter(args.a_log, args.num_heads, "a_log");
  check_head_parameter(args.d, args.num_heads, "d");
  check_head_parameter(args.dt_bias, args.num_heads, "dt_bias");
  check_same_or_disjoint(args.x, args.y, "x and y");
  check_disjoint(args.b, args.y, "b and y");
  check_disjoint(args.c, args.y, "c and y");
  check_disjoint(args.dt_raw, args.y, "dt_raw and y");
  if (args.ssm_state) {
    NF_CHECK(args.rows->state_slots) << "ssm_state without state_slots";
    NF_CHECK(args.ssm_state.dtype() == DType::kF32 && args.ssm_state.is_contiguous() &&
             args.ssm_state.shape().rank() == 4 && args.ssm_state.size(1) == args.num_heads &&
             args.ssm_state.size(2) == args.head_dim && args.ssm_state.size(3) == args.state_size)
        << args.ssm_state.shape().to_string();
  }
}

}  // namespace nemoforge::ops
