#include "ops/grouped_linear/grouped_linear.h"

#include "base/check.h"
#include "ops/op_checks.h"

namespace nemoforge::ops {

void check(const GroupedLinearArgs& args) {
  NF_CHECK(!args.weights.empty());
  const auto num_groups = static_cast<int64_t>(args.weights.size());
  const LinearWeight& first = args.weights[0];
  check(first);
  for (const LinearWeight& weight : args.weights) {
    NF_CHECK(weight.weight.raw() != nullptr && weight.weight.shape() == first.weight.shape() &&
             weight.weight.dtype() == first.weight.dtype() && weight.weight.is_contiguous() && !weight.bias)
        << weight.weight.shape().to_string() << " beside " << first.weight.shape().to_string();
  }
  NF_CHECK(args.offsets.dtype() == DType::kI32 && args.offsets.shape() == Shape({num_groups + 1}) &&
           args.offsets.is_contiguous())
      << args.offsets.shape().to_string();
  NF_CHECK(args.x && args.x.shape().rank() == 2) << args.x.shape().to_string();
  const int64_t num_rows = args.x.size(0);
  check_activation(args.x, num_rows, first.in_features(), "x");
  check_activation(args.out, num_rows, first.out_features(), "out");
  check_disjoint(args.x, args.out, "x and out");
}

void check_host_offsets(const GroupedLinearArgs& args) {
  const int32_t* offsets = args.offsets.data<int32_t>();
  const auto num_groups = static_cast<int64_t>(args.weights.size());
  NF_CHECK(offsets[0] == 0 && offsets[num_groups] == args.x.size(0))
      << offsets[0] << ".." << offsets[num_groups] << " for " << args.x.size(0) << " rows";
  for (int64_t group = 0; group < num_groups; ++group) {
    NF_CHECK(offsets[group] <= offsets[group + 1]) << "group " << group;
  }
}

}  // namespace nemoforge::ops
