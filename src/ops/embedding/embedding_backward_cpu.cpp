// Ranges of columns are tasks, so that rows of one id need no order between threads.
#include "base/check.h"
#include "ops/cpu_training_backend.h"
#include "ops/parallel_ranges.h"

namespace nemoforge::ops {

void CpuTrainingBackend::embedding_backward(const EmbeddingBackwardArgs& args) {
  check(args);
  const int32_t* ids = args.ids.data<int32_t>();
  const int64_t num_rows = args.d_out.size(0);
  for (int64_t row = 0; row < num_rows; ++row) {
    NF_CHECK(ids[row] >= 0 && ids[row] < args.d_table.size(0)) << ids[row] << " of " << args.d_table.size(0);
  }
  const auto add_columns = [&](int64_t begin, int64_t end, int) {
    for (int64_t row = 0; row < num_rows; ++row) {
      const float* from = args.d_out.data<float>() + row * args.d_out.row_stride();
      float* to = args.d_table.data<float>() + ids[row] * args.d_table.row_stride();
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  };
  parallel_ranges(pool_, args.d_out.size(1), items_per_task(num_rows * 12), add_columns);
}

}  // namespace nemoforge::ops
