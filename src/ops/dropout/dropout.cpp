#include "ops/dropout/dropout.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const DropoutArgs& args) {
  NF_CHECK(args.x && args.x.shape().rank() == 2);
  check_f32_matrix(args.x, args.x.size(0), args.x.size(1), "x");
  check_f32_matrix(args.out, args.x.size(0), args.x.size(1), "out");
  check_disjoint(args.out, args.x, "out and x");
  NF_CHECK(args.mask.probability >= 0 && args.mask.probability < 1) << args.mask.probability;
}

}  // namespace nemoforge::ops
