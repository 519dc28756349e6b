// A range of rows is a task: a copy, or a conversion, of one row of the table each.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/embedding/embedding_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/check.h"
#include "ops/cpu_backend.h"
#include "ops/dtype_dispatch.h"
#include "ops/parallel_ranges.h"
#include "ops/simd_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

void convert_rows(const EmbeddingArgs& args, int64_t begin, int64_t end) {
  const int32_t* ids = args.ids.data<int32_t>();
  dispatch_weight(args.table.dtype(), [&](auto table_type) {
    dispatch_activation(args.out.dtype(), [&](auto out_type) {
      const auto* table = args.table.data<typename decltype(table_type)::type>();
      auto* out = args.out.data<typename decltype(out_type)::type>();
      for (int64_t row = begin; row < end; ++row) {
        convert(table + ids[row] * args.table.row_stride(), out + row * args.out.row_stride(),
                args.out.size(1));
      }
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(convert_rows);

void CpuBackend::embedding(const EmbeddingArgs& args) {
  check(args);
  const int32_t* ids = args.ids.data<int32_t>();
  for (int64_t row = 0; row < args.ids.size(0); ++row) {
    NF_CHECK(ids[row] >= 0 && ids[row] < args.table.size(0)) << ids[row] << " of " << args.table.size(0);
  }
  const int64_t row_bytes =
      args.out.size(1) * (dtype_bytes(args.table.dtype()) + dtype_bytes(args.out.dtype()));
  parallel_ranges(pool_, args.out.size(0), items_per_task(row_bytes), [&](int64_t begin, int64_t end, int) {
    HWY_DYNAMIC_DISPATCH(convert_rows)(args, begin, end);
  });
}

}  // namespace nemoforge::ops
#endif
