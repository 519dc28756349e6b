// A range of rows is a task.
#include "ops/cpu_training_backend.h"
#include "ops/parallel_ranges.h"

namespace nemoforge::ops {

void CpuTrainingBackend::relu2_backward(const Relu2BackwardArgs& args) {
  check(args);
  const int64_t size = args.x.size(1);
  const auto run = [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x = args.x.data<float>() + row * args.x.row_stride();
      const float* __restrict d_out = args.d_out.data<float>() + row * args.d_out.row_stride();
      float* __restrict d_x = args.d_x.data<float>() + row * args.d_x.row_stride();
      for (int64_t i = 0; i < size; ++i) d_x[i] += 2 * (x[i] < 0 ? 0 : x[i]) * d_out[i];
    }
  };
  parallel_ranges(pool_, args.x.size(0), items_per_task(size * 16), run);
}

}  // namespace nemoforge::ops
