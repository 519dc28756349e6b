#include "ops/lora/lora_backward.h"

#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {

void check(const LoraBackwardArgs& args) {
  const int64_t num_rows = args.d_out.size(0);
  const int64_t in_features = args.x.size(1);
  const int64_t out_features = args.d_out.size(1);
  const DType dtype = activation_dtype(args.x, "x");
  check_matrix(args.x, dtype, num_rows, in_features, "x");
  check_matrix(args.d_out, dtype, num_rows, out_features, "d_out");
  check_matrix_or_f32(args.d_x, dtype, num_rows, in_features, "d_x");
  check_disjoint(args.d_x, args.x, "d_x and x");
  check_disjoint(args.d_x, args.d_out, "d_x and d_out");
  if (args.offsets) check_i32(args.offsets, {static_cast<int64_t>(args.runs.size()) + 1}, "offsets");
  for (const LoraBackwardRun& run : args.runs) {
    NF_CHECK(args.offsets || (run.begin >= 0 && run.begin <= run.end && run.end <= num_rows))
        << run.begin << ".." << run.end;
    NF_CHECK(run.weight != nullptr && run.weight->a && run.weight->b);
    const int64_t rank = run.weight->a.size(0);
    NF_CHECK((run.weight->a.shape() == Shape{rank, in_features}) &&
             (run.weight->b.shape() == Shape{out_features, rank}))
        << run.weight->a.shape().to_string() << ", " << run.weight->b.shape().to_string();
    NF_CHECK(run.d_a && run.d_b);
    check_optional_f32(run.d_a, run.weight->a.shape(), "d_a");
    check_optional_f32(run.d_b, run.weight->b.shape(), "d_b");
  }
}

}  // namespace nemoforge::ops
