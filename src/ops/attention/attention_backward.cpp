#include "ops/attention/attention_backward.h"

#include "ops/host_rows.h"
#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const AttentionBackwardArgs& args) {
  NF_CHECK(args.rows != nullptr);
  check(*args.rows);
  check_host_rows(*args.rows, ConstTensorView());
  NF_CHECK(args.num_kv_heads > 0 && args.num_heads > 0 && args.num_heads % args.num_kv_heads == 0)
      << args.num_heads << " heads, " << args.num_kv_heads << " KV heads";
  const int64_t num_tokens = args.rows->num_tokens;
  const int64_t q_size = args.num_heads * args.head_dim;
  const int64_t kv_size = args.num_kv_heads * args.head_dim;
  check_f32_matrix(args.q, num_tokens, q_size, "q");
  check_f32_matrix(args.k, num_tokens, kv_size, "k");
  check_f32_matrix(args.v, num_tokens, kv_size, "v");
  check_f32_matrix(args.d_out, num_tokens, q_size, "d_out");
  check_f32_matrix(args.d_q, num_tokens, q_size, "d_q");
  check_f32_matrix(args.d_k, num_tokens, kv_size, "d_k");
  check_f32_matrix(args.d_v, num_tokens, kv_size, "d_v");
  check_disjoint(args.d_q, args.d_out, "d_q and d_out");
}

}  // namespace nemoforge::ops
