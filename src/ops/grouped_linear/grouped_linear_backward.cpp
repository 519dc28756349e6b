#include "ops/grouped_linear/grouped_linear_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const GroupedLinearBackwardArgs& args) {
  NF_CHECK(!args.weights.empty());
  const auto num_groups = static_cast<int64_t>(args.weights.size());
  const int64_t in_features = args.weights[0].in_features();
  const int64_t out_features = args.weights[0].out_features();
  const int64_t num_rows = args.d_out.size(0);
  const DType dtype = activation_dtype(args.x, "x");
  check_matrix(args.x, dtype, num_rows, in_features, "x");
  check_matrix(args.d_out, dtype, num_rows, out_features, "d_out");
  check_matrix(args.d_x, dtype, num_rows, in_features, "d_x");
  check_disjoint(args.d_x, args.x, "d_x and x");
  check_disjoint(args.d_x, args.d_out, "d_x and d_out");
  for (const LinearWeight& weight : args.weights) {
    check(weight);
    NF_CHECK(!weight.bias && weight.weight.shape() == args.weights[0].weight.shape() &&
             weight.weight.dtype() == args.weights[0].weight.dtype());
  }
  NF_CHECK(args.d_weights.empty() || args.d_weights.size() == args.weights.size()) << args.d_weights.size();
  for (const TensorView& d_weight : args.d_weights) {
    check_f32_matrix(d_weight, out_features, in_features, "d_weights");
    check_optional_f32(d_weight, {out_features, in_features}, "d_weights");
  }
  check_i32(args.offsets, {num_groups + 1}, "offsets");
}

void check_with_host_offsets(const GroupedLinearBackwardArgs& args) {
  check(args);
  const auto num_groups = static_cast<int64_t>(args.weights.size());
  const int64_t num_rows = args.d_out.size(0);
  const int32_t* offsets = args.offsets.data<int32_t>();
  NF_CHECK(offsets[0] == 0 && offsets[num_groups] == num_rows) << offsets[num_groups] << " of " << num_rows;
  for (int64_t group = 0; group < num_groups; ++group)
    NF_CHECK(offsets[group] <= offsets[group + 1]) << group;
}

}  // namespace nemoforge::ops
