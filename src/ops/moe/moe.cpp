#include "ops/moe/moe.h"

#include "base/check.h"
#include "ops/op_checks.h"

namespace nemoforge::ops {
namespace {

void check_index(ConstTensorView view, const Shape& shape, const char* name) {
  NF_CHECK(view && view.dtype() == DType::kI32 && view.is_contiguous() && view.shape() == shape)
      << name << ": i32 " << shape.to_string() << " expected, got " << view.shape().to_string();
}

}  // namespace

void check(const MoeDispatchArgs& args) {
  NF_CHECK(args.x && args.x.shape().rank() == 2) << args.x.shape().to_string();
  NF_CHECK(args.expert_ids && args.expert_ids.shape().rank() == 2) << args.expert_ids.shape().to_string();
  const int64_t num_tokens = args.x.size(0);
  const int64_t top_k = args.expert_ids.size(1);
  NF_CHECK(top_k >= 1 && top_k <= args.num_experts) << top_k << " of " << args.num_experts;
  check_activation(args.x, num_tokens, args.x.size(1), "x");
  check_index(args.expert_ids, {num_tokens, top_k}, "expert_ids");
  check_index(args.offsets, {args.num_experts + 1}, "offsets");
  check_index(args.row_tokens, {num_tokens * top_k}, "row_tokens");
  check_index(args.row_of, {num_tokens, top_k}, "row_of");
  check_activation(args.out, num_tokens * top_k, args.x.size(1), "out");
  NF_CHECK(args.out.dtype() == args.x.dtype()) << dtype_name(args.out.dtype());
  check_disjoint(args.x, args.out, "x and out");
}

void check(const MoeCombineArgs& args) {
  NF_CHECK(args.row_of && args.row_of.shape().rank() == 2) << args.row_of.shape().to_string();
  NF_CHECK(args.out && args.out.shape().rank() == 2) << args.out.shape().to_string();
  const int64_t num_tokens = args.row_of.size(0);
  const int64_t top_k = args.row_of.size(1);
  const int64_t hidden_size = args.out.size(1);
  check_index(args.row_of, {num_tokens, top_k}, "row_of");
  check_activation(args.expert_out, num_tokens * top_k, hidden_size, "expert_out");
  NF_CHECK(args.expert_weights.dtype() == DType::kF32 && args.expert_weights.is_contiguous() &&
           args.expert_weights.shape() == Shape({num_tokens, top_k}))
      << args.expert_weights.shape().to_string();
  check_activation(args.out, num_tokens, hidden_size, "out");
  check_disjoint(args.expert_out, args.out, "expert_out and out");
  if (!args.shared) return;
  check_activation(args.shared, num_tokens, hidden_size, "shared");
  NF_CHECK(args.shared.dtype() == args.expert_out.dtype()) << dtype_name(args.shared.dtype());
  check_same_or_disjoint(args.shared, args.out, "shared and out");
}

}  // namespace nemoforge::ops
