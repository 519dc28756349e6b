#include "ops/moe/moe_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const MoeDispatchBackwardArgs& args) {
  NF_CHECK(args.d_x && args.d_x.shape().rank() == 2 && args.row_of.shape().rank() == 2);
  const int64_t num_tokens = args.d_x.size(0);
  const int64_t top_k = args.row_of.size(1);
  check_i32(args.row_of, {num_tokens, top_k}, "row_of");
  const DType dtype = activation_dtype(args.d_dispatched, "d_dispatched");
  check_matrix(args.d_dispatched, dtype, num_tokens * top_k, args.d_x.size(1), "d_dispatched");
  check_matrix_or_f32(args.d_x, dtype, num_tokens, args.d_x.size(1), "d_x");
  check_disjoint(args.d_x, args.d_dispatched, "d_x and d_dispatched");
}

void check(const MoeCombineBackwardArgs& args) {
  NF_CHECK(args.d_out && args.d_out.shape().rank() == 2 && args.row_of.shape().rank() == 2);
  const int64_t num_tokens = args.d_out.size(0);
  const int64_t hidden_size = args.d_out.size(1);
  const int64_t top_k = args.row_of.size(1);
  check_i32(args.row_of, {num_tokens, top_k}, "row_of");
  const DType dtype = activation_dtype(args.expert_out, "expert_out");
  check_matrix(args.expert_out, dtype, num_tokens * top_k, hidden_size, "expert_out");
  check_matrix(args.d_expert_out, dtype, num_tokens * top_k, hidden_size, "d_expert_out");
  check_f32_matrix(args.expert_weights, num_tokens, top_k, "expert_weights");
  check_f32_matrix(args.d_expert_weights, num_tokens, top_k, "d_expert_weights");
  check_matrix(args.d_out, dtype, num_tokens, hidden_size, "d_out");
  check_disjoint(args.d_expert_out, args.d_out, "d_expert_out and d_out");
  check_disjoint(args.d_expert_out, args.expert_out, "d_expert_out and expert_out");
}

}  // namespace nemoforge::ops
