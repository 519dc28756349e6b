#include "ops/embedding/embedding_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const EmbeddingBackwardArgs& args) {
  NF_CHECK(args.ids && args.ids.shape().rank() == 1 && args.d_table.shape().rank() == 2);
  check_i32(args.ids, {args.ids.size(0)}, "ids");
  check_f32_matrix(args.d_out, args.ids.size(0), args.d_table.size(1), "d_out");
  check_f32_matrix(args.d_table, args.d_table.size(0), args.d_table.size(1), "d_table");
  check_disjoint(args.d_out, args.d_table, "d_out and d_table");
}

}  // namespace nemoforge::ops
