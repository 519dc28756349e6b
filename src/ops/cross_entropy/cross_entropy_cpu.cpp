#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cross_entropy/cross_entropy_cpu.cpp"
#include <algorithm>
#include <cmath>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/check.h"
#include "ops/cpu_training_backend.h"
#include "ops/simd_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// One row; `exponentials` has vocab_size elements and may be the row's logits. Returns their sum.
double exponentials_of(const float* logits, int64_t size, float largest, float* exponentials) {
  exp_row(logits, largest, exponentials, size);
  // Running sums that vectorise; their order is fixed.
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= size; i += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] += static_cast<double>(exponentials[i + lane]);
  }
  for (; i < size; ++i) sums[0] += static_cast<double>(exponentials[i]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(exponentials_of);

void CpuTrainingBackend::cross_entropy(const CrossEntropyArgs& args) {
  check(args);
  const int64_t num_rows = args.logits.size(0);
  const int64_t vocab_size = args.logits.size(1);
  const int32_t* targets = args.targets.data<int32_t>();
  for (int64_t row = 0; row < num_rows; ++row) {
    NF_CHECK(targets[row] >= 0 && targets[row] < vocab_size) << targets[row] << " of " << vocab_size;
  }
  if (num_rows == 0) return;
  std::vector<float> buffers(args.d_logits ? 0 : static_cast<size_t>(pool_.num_threads() * vocab_size));
  pool_.parallel_for(num_rows, [&](int64_t row, int thread_idx) {
    const float* logits = args.logits.data<float>() + row * args.logits.row_stride();
    float* out = args.d_logits ? args.d_logits.data<float>() + row * args.d_logits.row_stride()
                               : buffers.data() + thread_idx * vocab_size;
    const auto target = static_cast<double>(logits[targets[row]]);  // before `out` overwrites it
    const float largest = *std::max_element(logits, logits + vocab_size);
    const double sum = HWY_DYNAMIC_DISPATCH(exponentials_of)(logits, vocab_size, largest, out);
    args.losses.data<float>()[row] =
        static_cast<float>(std::log(sum) + static_cast<double>(largest) - target);
    if (!args.d_logits) return;
    const auto factor = static_cast<float>(static_cast<double>(args.scale) / sum);
    for (int64_t j = 0; j < vocab_size; ++j) out[j] *= factor;
    out[targets[row]] -= args.scale;
  });
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
