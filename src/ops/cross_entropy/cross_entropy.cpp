#include "ops/cross_entropy/cross_entropy.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const CrossEntropyArgs& args) {
  NF_CHECK(args.logits && args.logits.shape().rank() == 2);
  const int64_t num_rows = args.logits.size(0);
  const int64_t vocab_size = args.logits.size(1);
  check_f32_matrix(args.logits, num_rows, vocab_size, "logits");
  check_i32(args.targets, {num_rows}, "targets");
  NF_CHECK(args.losses);
  check_optional_f32(args.losses, {num_rows}, "losses");
  if (args.d_logits) {
    check_matrix_or_f32(args.d_logits, DType::kBF16, num_rows, vocab_size, "d_logits");
  }
  if (args.d_logits && args.d_logits.dtype() != DType::kF32) {
    check_disjoint(args.d_logits, args.logits, "d_logits and logits");
  } else {
    check_same_or_disjoint(args.d_logits, args.logits, "d_logits and logits");
  }
}

}  // namespace nemoforge::ops
