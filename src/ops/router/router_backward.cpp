#include "ops/router/router_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const RouterBackwardArgs& args) {
  NF_CHECK(args.logits && args.logits.shape().rank() == 2 && args.expert_ids.shape().rank() == 2);
  const int64_t num_tokens = args.logits.size(0);
  check_f32_matrix(args.logits, num_tokens, args.logits.size(1), "logits");
  check_f32_matrix(args.d_logits, num_tokens, args.logits.size(1), "d_logits");
  check_i32(args.expert_ids, {num_tokens, args.expert_ids.size(1)}, "expert_ids");
  check_f32_matrix(args.d_expert_weights, num_tokens, args.expert_ids.size(1), "d_expert_weights");
  check_disjoint(args.d_logits, args.logits, "d_logits and logits");
}

}  // namespace nemoforge::ops
