#include "ops/ssd_scan/ssd_scan_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const SsdScanBackwardArgs& args) {
  NF_CHECK(args.rows != nullptr);
  check(*args.rows);
  NF_CHECK(args.num_groups > 0 && args.num_heads > 0 && args.num_heads % args.num_groups == 0)
      << args.num_heads << " heads, " << args.num_groups << " groups";
  NF_CHECK(args.head_dim > 0 && args.state_size > 0) << args.head_dim << ", " << args.state_size;
  const int64_t num_tokens = args.rows->num_tokens;
  const int64_t channels = args.num_heads * args.head_dim;
  const int64_t bc = args.num_groups * args.state_size;
  const DType dtype = activation_dtype(args.x, "x");
  check_matrix(args.x, dtype, num_tokens, channels, "x");
  check_matrix(args.b, dtype, num_tokens, bc, "b");
  check_matrix(args.c, dtype, num_tokens, bc, "c");
  check_matrix(args.dt_raw, dtype, num_tokens, args.num_heads, "dt_raw");
  check_matrix(args.d_y, dtype, num_tokens, channels, "d_y");
  check_matrix(args.d_x, dtype, num_tokens, channels, "d_x");
  check_matrix(args.d_b, dtype, num_tokens, bc, "d_b");
  check_matrix(args.d_c, dtype, num_tokens, bc, "d_c");
  check_matrix(args.d_dt_raw, dtype, num_tokens, args.num_heads, "d_dt_raw");
  const Shape heads{args.num_heads};
  NF_CHECK(args.a_log && args.d && args.dt_bias);
  check_optional_f32(args.a_log, heads, "a_log");
  check_optional_f32(args.d, heads, "d");
  check_optional_f32(args.dt_bias, heads, "dt_bias");
  const bool trains = static_cast<bool>(args.d_a_log);
  NF_CHECK(static_cast<bool>(args.d_d) == trains && static_cast<bool>(args.d_dt_bias) == trains);
  check_optional_f32(args.d_a_log, heads, "d_a_log");
  check_optional_f32(args.d_d, heads, "d_d");
  check_optional_f32(args.d_dt_bias, heads, "d_dt_bias");
  check_disjoint(args.d_x, args.d_y, "d_x and d_y");
}

}  // namespace nemoforge::ops
