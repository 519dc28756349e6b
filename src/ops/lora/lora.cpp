#include "ops/lora/lora.h"

#include "base/check.h"
#include "ops/op_checks.h"
#include "ops/training_checks.h"

namespace nemoforge::ops {
namespace {

// Quadratic in the number of runs only where they are out of order: callers list them by rows.
void check_disjoint_runs(std::span<const LoraRun> runs) {
  for (size_t i = 1; i < runs.size(); ++i) {
    if (runs[i - 1].end <= runs[i].begin) continue;
    for (size_t j = 0; j < i; ++j) {
      NF_CHECK(runs[j].end <= runs[i].begin || runs[i].end <= runs[j].begin)
          << "runs " << j << " and " << i << " overlap";
    }
  }
}

}  // namespace

void check(const LoraAddArgs& args) {
  NF_CHECK(args.x && args.x.shape().rank() == 2) << args.x.shape().to_string();
  NF_CHECK(args.out && args.out.shape().rank() == 2) << args.out.shape().to_string();
  const int64_t num_rows = args.x.size(0);
  check_activation(args.x, num_rows, args.x.size(1), "x");
  check_activation(args.out, num_rows, args.out.size(1), "out");
  check_disjoint(args.x, args.out, "x and out");
  if (args.offsets) check_i32(args.offsets, {static_cast<int64_t>(args.runs.size()) + 1}, "offsets");
  for (const LoraRun& run : args.runs) {
    NF_CHECK(args.offsets || (run.begin >= 0 && run.begin <= run.end && run.end <= num_rows))
        << run.begin << ".." << run.end << " of " << num_rows << " rows";
    NF_CHECK(run.weight != nullptr && is_parameter(run.weight->a) && is_parameter(run.weight->b));
    const int64_t rank = run.weight->a.size(0);
    check_activation(run.weight->a, rank, args.x.size(1), "a");
    check_activation(run.weight->b, args.out.size(1), rank, "b");
  }
  if (!args.offsets) check_disjoint_runs(args.runs);
}

}  // namespace nemoforge::ops
