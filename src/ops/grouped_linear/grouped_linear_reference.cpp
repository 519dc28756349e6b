#include "ops/reference_backend.h"

namespace nemoforge::ops {

void ReferenceBackend::grouped_linear(const GroupedLinearArgs& args) {
  check(args);
  check_host_offsets(args);
  const int32_t* offsets = args.offsets.data<int32_t>();
  for (size_t group = 0; group < args.weights.size(); ++group) {
    const int64_t num_rows = offsets[group + 1] - offsets[group];
    linear({.x = args.x.rows(offsets[group], num_rows),
            .weight = &args.weights[group],
            .num_decode_rows = 0,
            .out = args.out.rows(offsets[group], num_rows)});
  }
}

}  // namespace nemoforge::ops
