// Rows are independent: a range of rows is a task. Each group of a row is read once, kept as fp32 in L1 and
// written once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/gated_rms_norm/gated_rms_norm_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu_backend.h"
#include "ops/dtype_dispatch.h"
#include "ops/parallel_ranges.h"
#include "ops/rms_norm/norm_row-inl.h"
#include "ops/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// gated[i] = y[i] * silu(z[i]); returns the sum of squares.
template <typename Y, typename Z>
float fill_gated(const Y* y, const Z* z, float* gated, int64_t size) {
  const hn::ScalableTag<float> d;
  return fill_row(
      gated, size, [&](int64_t i) HWY_ATTR { return hn::Mul(load(d, y + i), silu(d, load(d, z + i))); },
      [&](int64_t i, int64_t rest)
          HWY_ATTR { return hn::Mul(load_partial(d, y + i, rest), silu(d, load_partial(d, z + i, rest))); });
}

// Rows [begin, end); `gated` has the elements of a group.
void gated_rms_norm_rows(const GatedRmsNormArgs& args, int64_t begin, int64_t end, float* gated) {
  const int64_t group_size = args.y.size(1) / args.num_groups;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t column = 0; column < args.y.size(1); column += group_size) {
      const float sum_of_squares =
          dispatch_activation(args.y.dtype(), [&]<typename Y>(std::type_identity<Y>) {
            return dispatch_activation(args.z.dtype(), [&]<typename Z>(std::type_identity<Z>) {
              return fill_gated(args.y.data<Y>() + row * args.y.row_stride() + column,
                                args.z.data<Z>() + row * args.z.row_stride() + column, gated, group_size);
            });
          });
      dispatch_weight(args.weight.dtype(), [&]<typename W>(std::type_identity<W>) {
        dispatch_activation(args.out.dtype(), [&]<typename Out>(std::type_identity<Out>) {
          write_normalised(gated, sum_of_squares, args.epsilon, args.weight.data<W>() + column,
                           args.out.data<Out>() + row * args.out.row_stride() + column, group_size);
        });
      });
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(gated_rms_norm_rows);

void CpuBackend::gated_rms_norm(const GatedRmsNormArgs& args) {
  check(args);
  const int64_t group_size = args.y.size(1) / args.num_groups;
  float* buffers = thread_scratch(pool_.num_threads() * group_size);
  const auto run = [&](int64_t begin, int64_t end, int thread_idx) {
    HWY_DYNAMIC_DISPATCH(gated_rms_norm_rows)(args, begin, end, buffers + thread_idx * group_size);
  };
  parallel_ranges(pool_, args.y.size(0), items_per_task(args.y.size(1) * 12), run);
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
