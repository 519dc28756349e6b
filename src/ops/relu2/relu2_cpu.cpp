// A range of rows is a task.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/relu2/relu2_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu_backend.h"
#include "ops/dtype_dispatch.h"
#include "ops/parallel_ranges.h"
#include "ops/simd_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

template <class V>
HWY_INLINE V relu2_of(V x) {
  const auto zero = hn::Zero(hn::DFromV<V>());
  const auto rectified = hn::IfThenElse(hn::Lt(x, zero), zero, x);  // NaN is not below 0
  return hn::Mul(rectified, rectified);
}

template <typename T>
void relu2_row(const T* x, T* out, int64_t size) {
  const hn::ScalableTag<float> d;
  for_each_vector(
      d, size, [&](int64_t i) HWY_ATTR { store(relu2_of(load(d, x + i)), d, out + i); },
      [&](int64_t i, int64_t rest)
          HWY_ATTR { store_partial(relu2_of(load_partial(d, x + i, rest)), d, out + i, rest); });
}

void relu2_rows(const Relu2Args& args, int64_t begin, int64_t end) {
  dispatch_activation(args.x.dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    for (int64_t row = begin; row < end; ++row) {
      relu2_row(args.x.data<T>() + row * args.x.row_stride(),
                args.out.data<T>() + row * args.out.row_stride(), args.x.size(1));
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(relu2_rows);

void CpuBackend::relu2(const Relu2Args& args) {
  check(args);
  const int64_t row_bytes = 2 * args.x.size(1) * dtype_bytes(args.x.dtype());
  parallel_ranges(pool_, args.x.size(0), items_per_task(row_bytes), [&](int64_t begin, int64_t end, int) {
    HWY_DYNAMIC_DISPATCH(relu2_rows)(args, begin, end);
  });
}

}  // namespace nemoforge::ops
#endif
