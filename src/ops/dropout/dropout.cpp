#include "ops/dropout/dropout.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const DropoutArgs& args) {
  NF_CHECK(args.x && args.x.shape().rank() == 2);
  const DType dtype = activation_dtype(args.x, "x");
  check_matrix(args.x, dtype, args.x.size(0), args.x.size(1), "x");
  check_matrix_or_f32(args.out, dtype, args.x.size(0), args.x.size(1), "out");
  check_disjoint(args.out, args.x, "out and x");
  NF_CHECK(args.mask.probability >= 0 && args.mask.probability < 1) << args.mask.probability;
}

}  // namespace nemoforge::ops
