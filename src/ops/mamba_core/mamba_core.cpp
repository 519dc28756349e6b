#include "ops/mamba_core/mamba_core.h"

#include "base/check.h"
#include "ops/backend.h"

namespace nemoforge::ops {

void check(const MambaCoreArgs& args) {
  check(args.conv);
  check(args.scan);
  check(args.norm);
  const int64_t inner = args.scan.num_heads * args.scan.head_dim;
  const int64_t bc = args.scan.num_groups * args.scan.state_size;
  const TensorView& convolved = args.conv.out;
  NF_CHECK(convolved.size(1) == inner + 2 * bc) << convolved.size(1) << " channels";
  NF_CHECK(args.scan.x.raw() == convolved.columns(0, inner).raw() &&
           args.scan.b.raw() == convolved.columns(inner, bc).raw() &&
           args.scan.c.raw() == convolved.columns(inner + bc, bc).raw())
      << "the scan reads what the convolution wrote";
  NF_CHECK(args.scan.rows == args.conv.rows && args.norm.y.raw() == args.scan.y.raw());
}

void Backend::mamba_core(const MambaCoreArgs& args) {
  check(args);
  causal_conv1d(args.conv);
  ssd_scan(args.scan);
  gated_rms_norm(args.norm);
}

}  // namespace nemoforge::ops
