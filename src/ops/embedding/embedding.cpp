#include "ops/embedding/embedding.h"

#include "base/check.h"
#include "ops/dtype_dispatch.h"
#include "ops/op_checks.h"

namespace nemoforge::ops {

void check(const EmbeddingArgs& args) {
  NF_CHECK(args.ids.dtype() == DType::kI32 && args.ids.shape().rank() == 1 && args.ids.is_contiguous())
      << dtype_name(args.ids.dtype()) << ' ' << args.ids.shape().to_string();
  NF_CHECK(args.table && is_weight_dtype(args.table.dtype()) && args.table.shape().rank() == 2 &&
           args.table.row_stride() >= args.table.size(1))
      << args.table.shape().to_string() << " of " << dtype_name(args.table.dtype());
  check_activation(args.out, args.ids.size(0), args.table.size(1), "out");
  check_disjoint(args.out, args.table, "out and table");
}

}  // namespace nemoforge::ops
