// Rows are independent: a range of rows is a task. A row is read once, kept as fp32 in L1 and written once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/rms_norm/rms_norm_cpu.cpp"
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

template <typename X>
float fill_row_with(const X* x, float* row, int64_t size) {
  const hn::ScalableTag<float> d;
  return fill_row(
      row, size, [&](int64_t i) HWY_ATTR { return load(d, x + i); },
      [&](int64_t i, int64_t rest) HWY_ATTR { return load_partial(d, x + i, rest); });
}

// residual[i] = round(residual[i] + delta[i]), in place.
template <typename Residual, typename Delta>
void add_row(Residual* residual, const Delta* delta, int64_t size) {
  const hn::ScalableTag<float> d;
  for_each_vector(
      d, size,
      [&](int64_t i) HWY_ATTR { store(hn::Add(load(d, residual + i), load(d, delta + i)), d, residual + i); },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        const auto sum = hn::Add(load_partial(d, residual + i, rest), load_partial(d, delta + i, rest));
        store_partial(sum, d, residual + i, rest);
      });
}

// Rows [begin, end); `row_buffer` has hidden_size elements.
void rms_norm_rows(const RmsNormArgs& args, int64_t begin, int64_t end, float* row_buffer) {
  const int64_t size = args.x.size(1);
  for (int64_t row = begin; row < end; ++row) {
    const float sum_of_squares = dispatch_activation(args.x.dtype(), [&]<typename X>(std::type_identity<X>) {
      return fill_row_with(args.x.data<X>() + row * args.x.row_stride(), row_buffer, size);
    });
    dispatch_weight(args.weight.dtype(), [&]<typename W>(std::type_identity<W>) {
      dispatch_activation(args.out.dtype(), [&]<typename Out>(std::type_identity<Out>) {
        write_normalised(row_buffer, sum_of_squares, args.epsilon, args.weight.data<W>(),
                         args.out.data<Out>() + row * args.out.row_stride(), size);
      });
    });
  }
}

void add_rms_norm_rows(const AddRmsNormArgs& args, int64_t begin, int64_t end, float* row_buffer) {
  const RmsNormArgs norm{.x = args.residual, .weight = args.weight, .epsilon = args.epsilon, .out = args.out};
  for (int64_t row = begin; row < end; ++row) {
    dispatch_activation(args.residual.dtype(), [&]<typename R>(std::type_identity<R>) {
      dispatch_activation(args.delta.dtype(), [&]<typename Delta>(std::type_identity<Delta>) {
        add_row(args.residual.data<R>() + row * args.residual.row_stride(),
                args.delta.data<Delta>() + row * args.delta.row_stride(), args.residual.size(1));
      });
    });
    rms_norm_rows(norm, row, row + 1, row_buffer);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(rms_norm_rows);
HWY_EXPORT(add_rms_norm_rows);

void CpuBackend::rms_norm(const RmsNormArgs& args) {
  check(args);
  const int64_t size = args.x.size(1);
  float* buffers = thread_scratch(pool_.num_threads() * size);
  const auto run = [&](int64_t begin, int64_t end, int thread_idx) {
    HWY_DYNAMIC_DISPATCH(rms_norm_rows)(args, begin, end, buffers + thread_idx * size);
  };
  parallel_ranges(pool_, args.x.size(0), items_per_task(size * 8), run);
}

void CpuBackend::add_rms_norm(const AddRmsNormArgs& args) {
  check(args);
  const int64_t size = args.residual.size(1);
  float* buffers = thread_scratch(pool_.num_threads() * size);
  const auto run = [&](int64_t begin, int64_t end, int thread_idx) {
    HWY_DYNAMIC_DISPATCH(add_rms_norm_rows)(args, begin, end, buffers + thread_idx * size);
  };
  parallel_ranges(pool_, args.residual.size(0), items_per_task(size * 16), run);
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
