#include "ops/relu2/relu2.h"

#include "base/check.h"
#include "ops/op_checks.h"

namespace nemoforge::ops {

void check(const Relu2Args& args) {
  NF_CHECK(args.x && args.x.shape().rank() == 2) << args.x.shape().to_string();
  check_activation(args.x, args.x.size(0), args.x.size(1), "x");
  check_activation(args.out, args.x.size(0), args.x.size(1), "out");
  NF_CHECK(args.out.dtype() == args.x.dtype()) << dtype_name(args.out.dtype());
  check_same_or_disjoint(args.x, args.out, "x and out");
}

}  // namespace nemoforge::ops
