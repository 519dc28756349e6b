// A range of rows is a task; four elements share a block of random numbers.
#include <algorithm>

#include "ops/cpu_training_backend.h"
#include "ops/dropout/dropout.h"
#include "ops/parallel_ranges.h"

namespace nemoforge::ops {

void CpuTrainingBackend::dropout(const DropoutArgs& args) {
  check(args);
  const int64_t size = args.x.size(1);
  const uint32_t threshold = args.mask.threshold();
  const auto scale = static_cast<float>(1 / (1 - args.mask.probability));
  const auto run = [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x = args.x.data<float>() + row * args.x.row_stride();
      float* __restrict out = args.out.data<float>() + row * args.out.row_stride();
      for (int64_t first = 0; first < size; first += 4) {
        const auto draws = args.mask.draws(row, first / 4);
        for (int64_t i = first; i < std::min(first + 4, size); ++i) {
          out[i] += draws[static_cast<size_t>(i - first)] < threshold ? 0 : scale * x[i];
        }
      }
    }
  };
  parallel_ranges(pool_, args.x.size(0), items_per_task(size * 16), run);
}

}  // namespace nemoforge::ops
