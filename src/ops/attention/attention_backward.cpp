#include "ops/attention/attention_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const AttentionBackwardArgs& args) {
  NF_CHECK(args.rows != nullptr);
  check(*args.rows);
  NF_CHECK(args.num_kv_heads > 0 && args.num_heads > 0 && args.num_heads % args.num_kv_heads == 0)
      << args.num_heads << " heads, " << args.num_kv_heads << " KV heads";
  const int64_t num_tokens = args.rows->num_tokens;
  const int64_t q_size = args.num_heads * args.head_dim;
  const int64_t kv_size = args.num_kv_heads * args.head_dim;
  const DType dtype = activation_dtype(args.q, "q");
  check_matrix(args.q, dtype, num_tokens, q_size, "q");
  check_matrix(args.k, dtype, num_tokens, kv_size, "k");
  check_matrix(args.v, dtype, num_tokens, kv_size, "v");
  check_matrix(args.d_out, dtype, num_tokens, q_size, "d_out");
  check_matrix(args.d_q, dtype, num_tokens, q_size, "d_q");
  check_matrix(args.d_k, dtype, num_tokens, kv_size, "d_k");
  check_matrix(args.d_v, dtype, num_tokens, kv_size, "d_v");
  check_disjoint(args.d_q, args.d_out, "d_q and d_out");
}

}  // namespace nemoforge::ops
