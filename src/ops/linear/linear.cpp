#include "ops/linear/linear.h"

#include "base/check.h"
#include "ops/dtype_dispatch.h"
#include "ops/op_checks.h"

namespace nemoforge::ops {

void check(const LinearWeight& weight) {
  NF_CHECK(weight.weight && is_weight_dtype(weight.weight.dtype()) && weight.weight.shape().rank() == 2 &&
           weight.weight.is_contiguous())
      << weight.weight.shape().to_string() << " of " << dtype_name(weight.weight.dtype());
  NF_CHECK(!weight.bias ||
           (is_weight_dtype(weight.bias.dtype()) && weight.bias.shape() == Shape({weight.out_features()})))
      << weight.bias.shape().to_string() << " of " << dtype_name(weight.bias.dtype());
}

void check(const LinearArgs& args) {
  NF_CHECK(args.weight != nullptr);
  check(*args.weight);
  NF_CHECK(args.x && args.x.shape().rank() == 2) << args.x.shape().to_string();
  const int64_t num_rows = args.x.size(0);
  check_activation(args.x, num_rows, args.weight->in_features(), "x");
  check_activation(args.out, num_rows, args.weight->out_features(), "out");
  NF_CHECK(args.num_decode_rows >= 0 && args.num_decode_rows <= num_rows)
      << args.num_decode_rows << " of " << num_rows;
  check_disjoint(args.x, args.out, "x and out");
}

}  // namespace nemoforge::ops
