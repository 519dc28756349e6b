#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/gated_rms_norm/gated_rms_norm_backward_cpu.cpp"
#include <cmath>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu_training_backend.h"
#include "ops/parameter_values.h"
#include "ops/row_blocks.h"
#include "ops/simd_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// One group of a row: `sigmoids`, `gated` and `scaled` have its size.
void gated_group_backward(const float* HWY_RESTRICT y, const float* HWY_RESTRICT z,
                          const float* HWY_RESTRICT weight, float epsilon, const float* HWY_RESTRICT d_out,
                          float* HWY_RESTRICT d_y, float* HWY_RESTRICT d_z, float* HWY_RESTRICT d_weight,
                          int64_t size, float* HWY_RESTRICT sigmoids, float* HWY_RESTRICT gated,
                          float* HWY_RESTRICT scaled) {
  sigmoid_row(z, sigmoids, size);
  for (int64_t i = 0; i < size; ++i) {
    gated[i] = y[i] * z[i] * sigmoids[i];
    scaled[i] = d_out[i] * weight[i];
  }
  const auto count = static_cast<float>(size);
  const float r = 1 / std::sqrt(dot(gated, gated, size) / count + epsilon);
  const float along = r * r * r * dot(scaled, gated, size) / count;
  for (int64_t i = 0; i < size; ++i) {
    const float d_g = r * scaled[i] - along * gated[i];
    const float s = sigmoids[i];
    d_y[i] += d_g * z[i] * s;
    d_z[i] += d_g * y[i] * s * (1 + z[i] * (1 - s));
  }
  if (d_weight == nullptr) return;
  for (int64_t i = 0; i < size; ++i) d_weight[i] += d_out[i] * gated[i] * r;
}

// Rows [begin, end); `buffers` has three times a group's elements.
void gated_rms_norm_backward_rows(const GatedRmsNormBackwardArgs& args, const float* weight, int64_t begin,
                                  int64_t end, float* d_weight, float* buffers) {
  const int64_t size = args.y.size(1) / args.num_groups;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t group = 0; group < args.num_groups; ++group) {
      const int64_t column = group * size;
      gated_group_backward(args.y.data<float>() + row * args.y.row_stride() + column,
                           args.z.data<float>() + row * args.z.row_stride() + column, weight + column,
                           args.epsilon, args.d_out.data<float>() + row * args.d_out.row_stride() + column,
                           args.d_y.data<float>() + row * args.d_y.row_stride() + column,
                           args.d_z.data<float>() + row * args.d_z.row_stride() + column,
                           d_weight != nullptr ? d_weight + column : nullptr, size, buffers, buffers + size,
                           buffers + 2 * size);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(gated_rms_norm_backward_rows);

void CpuTrainingBackend::gated_rms_norm_backward(const GatedRmsNormBackwardArgs& args) {
  check(args);
  const int64_t buffer_size = 3 * args.y.size(1) / args.num_groups;
  const std::vector<float> weight = parameter_values(args.weight);
  std::vector<float> buffers(static_cast<size_t>(pool_.num_threads() * buffer_size));
  for_row_blocks(pool_, args.y.size(0), args.d_weight,
                 [&](int64_t begin, int64_t end, float* d_weight, int thread_idx) {
                   HWY_DYNAMIC_DISPATCH(gated_rms_norm_backward_rows)
                   (args, weight.data(), begin, end, d_weight, buffers.data() + thread_idx * buffer_size);
                 });
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
