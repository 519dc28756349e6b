// Row-wise backward kernels that also add up a parameter's gradient over the rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/integers.h"
#include "base/thread_pool.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// Rows of a task. Each has its own partial sum, and these are added in order: the result does not depend on
// the number of threads.
constexpr int64_t kRowsPerBlock = 64;

// Calls run(begin, end, partial, thread_idx) for blocks of rows in parallel, then adds the partial sums to
// d_parameter (f32, contiguous; absent: partial is null).
template <typename Run>
void for_row_blocks(ThreadPool& pool, int64_t num_rows, const TensorView& d_parameter, const Run& run) {
  const int64_t num_blocks = ceil_div(num_rows, kRowsPerBlock);
  if (num_blocks == 0) return;
  const int64_t size = d_parameter ? d_parameter.numel() : 0;
  std::vector<float> partials(static_cast<size_t>(num_blocks * size));
  pool.parallel_for(num_blocks, [&](int64_t block, int thread_idx) {
    const int64_t begin = block * kRowsPerBlock;
    run(begin, std::min(begin + kRowsPerBlock, num_rows),
        d_parameter ? partials.data() + block * size : nullptr, thread_idx);
  });
  for (int64_t block = 0; block < num_blocks; ++block) {
    for (int64_t i = 0; i < size; ++i) {
      d_parameter.data<float>()[i] += partials[static_cast<size_t>(block * size + i)];
    }
  }
}

}  // namespace nemoforge::ops
