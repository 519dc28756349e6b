#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/rms_norm/rms_norm_backward_cpu.cpp"
#include <algorithm>
#include <cmath>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/integers.h"
#include "ops/cpu_training_backend.h"
#include "ops/parameter_values.h"
#include "ops/row_blocks.h"
#include "ops/simd_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Rows [begin, end); `scaled` has hidden_size elements; d_weight is of these rows alone, null for none.
void rms_norm_backward_rows(const RmsNormBackwardArgs& args, const float* weight, int64_t begin, int64_t end,
                            float* HWY_RESTRICT scaled, float* HWY_RESTRICT d_weight) {
  const int64_t size = args.x.size(1);
  for (int64_t row = begin; row < end; ++row) {
    const float* HWY_RESTRICT x = args.x.data<float>() + row * args.x.row_stride();
    const float* HWY_RESTRICT d_out = args.d_out.data<float>() + row * args.d_out.row_stride();
    float* HWY_RESTRICT d_x = args.d_x.data<float>() + row * args.d_x.row_stride();
    for (int64_t i = 0; i < size; ++i) scaled[i] = d_out[i] * weight[i];
    const auto count = static_cast<float>(size);
    const float r = 1 / std::sqrt(dot(x, x, size) / count + args.epsilon);
    const float along_x = r * r * r * dot(scaled, x, size) / count;
    for (int64_t i = 0; i < size; ++i) d_x[i] += r * scaled[i] - along_x * x[i];
    if (d_weight == nullptr) continue;
    for (int64_t i = 0; i < size; ++i) d_weight[i] += d_out[i] * x[i] * r;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(rms_norm_backward_rows);

void CpuTrainingBackend::rms_norm_backward(const RmsNormBackwardArgs& args) {
  check(args);
  const int64_t size = args.x.size(1);
  const std::vector<float> weight = parameter_values(args.weight);
  std::vector<float> buffers(static_cast<size_t>(pool_.num_threads() * size));
  for_row_blocks(pool_, args.x.size(0), args.d_weight,
                 [&](int64_t begin, int64_t end, float* d_weight, int thread_idx) {
                   HWY_DYNAMIC_DISPATCH(rms_norm_backward_rows)
                   (args, weight.data(), begin, end, buffers.data() + thread_idx * size, d_weight);
                 });
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
