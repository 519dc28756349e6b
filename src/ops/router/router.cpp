#include "ops/router/router.h"

#include "base/check.h"
#include "ops/op_checks.h"

namespace nemoforge::ops {

void check(const RouterArgs& args) {
  NF_CHECK(args.logits && args.logits.dtype() == DType::kF32 && args.logits.shape().rank() == 2)
      << args.logits.shape().to_string();
  const int64_t num_tokens = args.logits.size(0);
  const int64_t num_experts = args.logits.size(1);
  check_activation(args.logits, num_tokens, num_experts, "logits");
  NF_CHECK(args.correction_bias && args.correction_bias.dtype() == DType::kF32 &&
           args.correction_bias.shape() == Shape({num_experts}))
      << args.correction_bias.shape().to_string();
  NF_CHECK(args.num_groups >= 1 && num_experts % args.num_groups == 0)
      << num_experts << " experts in " << args.num_groups << " groups";
  NF_CHECK(args.top_k_groups >= 1 && args.top_k_groups <= args.num_groups)
      << args.top_k_groups << " of " << args.num_groups << " groups";
  NF_CHECK(args.top_k >= 1 && args.top_k <= num_experts / args.num_groups * args.top_k_groups)
      << args.top_k << " of " << num_experts << " experts in " << args.top_k_groups << " of "
      << args.num_groups << " groups";
  NF_CHECK(args.expert_ids.dtype() == DType::kI32 && args.expert_ids.is_contiguous() &&
           args.expert_ids.shape() == Shape({num_tokens, args.top_k}))
      << args.expert_ids.shape().to_string();
  NF_CHECK(args.expert_weights.dtype() == DType::kF32 && args.expert_weights.is_contiguous() &&
           args.expert_weights.shape() == Shape({num_tokens, args.top_k}))
      << args.expert_weights.shape().to_string();
}

}  // namespace nemoforge::ops
