#include "ops/relu2/relu2_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const Relu2BackwardArgs& args) {
  NF_CHECK(args.x && args.x.shape().rank() == 2);
  const DType dtype = activation_dtype(args.x, "x");
  check_matrix(args.x, dtype, args.x.size(0), args.x.size(1), "x");
  check_matrix(args.d_out, dtype, args.x.size(0), args.x.size(1), "d_out");
  check_matrix(args.d_x, dtype, args.x.size(0), args.x.size(1), "d_x");
  check_disjoint(args.d_x, args.x, "d_x and x");
  check_disjoint(args.d_x, args.d_out, "d_x and d_out");
}

}  // namespace nemoforge::ops
