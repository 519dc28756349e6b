#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/moe/moe_backward_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/check.h"
#include "ops/cpu_training_backend.h"
#include "ops/parallel_ranges.h"
#include "ops/simd_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

void dispatch_backward_tokens(const MoeDispatchBackwardArgs& args, int64_t begin, int64_t end) {
  const int64_t top_k = args.row_of.size(1);
  for (int64_t token = begin; token < end; ++token) {
    float* d_x = args.d_x.data<float>() + token * args.d_x.row_stride();
    for (int64_t k = 0; k < top_k; ++k) {
      const int64_t row = args.row_of.data<int32_t>()[token * top_k + k];
      add_scaled(1, args.d_dispatched.data<float>() + row * args.d_dispatched.row_stride(), d_x,
                 args.d_x.size(1));
    }
  }
}

void combine_backward_tokens(const MoeCombineBackwardArgs& args, int64_t begin, int64_t end) {
  const int64_t top_k = args.row_of.size(1);
  const int64_t size = args.d_out.size(1);
  for (int64_t token = begin; token < end; ++token) {
    const float* d_out = args.d_out.data<float>() + token * args.d_out.row_stride();
    const float* weights = args.expert_weights.data<float>() + token * args.expert_weights.row_stride();
    float* d_weights = args.d_expert_weights.data<float>() + token * args.d_expert_weights.row_stride();
    for (int64_t k = 0; k < top_k; ++k) {
      const int64_t row = args.row_of.data<int32_t>()[token * top_k + k];
      add_scaled(weights[k], d_out, args.d_expert_out.data<float>() + row * args.d_expert_out.row_stride(),
                 size);
      d_weights[k] += dot(d_out, args.expert_out.data<float>() + row * args.expert_out.row_stride(), size);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(dispatch_backward_tokens);
HWY_EXPORT(combine_backward_tokens);

namespace {

void check_row_of(const ConstTensorView& row_of, int64_t num_sorted) {
  const int32_t* rows = row_of.data<int32_t>();
  for (int64_t i = 0; i < row_of.numel(); ++i) {
    NF_CHECK(rows[i] >= 0 && rows[i] < num_sorted) << rows[i] << " of " << num_sorted;
  }
}

}  // namespace

void CpuTrainingBackend::moe_dispatch_backward(const MoeDispatchBackwardArgs& args) {
  check(args);
  check_row_of(args.row_of, args.d_dispatched.size(0));
  const int64_t bytes = args.d_x.size(1) * args.row_of.size(1) * 4;
  parallel_ranges(pool_, args.d_x.size(0), items_per_task(bytes), [&](int64_t begin, int64_t end, int) {
    HWY_DYNAMIC_DISPATCH(dispatch_backward_tokens)(args, begin, end);
  });
}

void CpuTrainingBackend::moe_combine_backward(const MoeCombineBackwardArgs& args) {
  check(args);
  check_row_of(args.row_of, args.expert_out.size(0));
  const int64_t bytes = args.d_out.size(1) * args.row_of.size(1) * 12;
  parallel_ranges(pool_, args.d_out.size(0), items_per_task(bytes), [&](int64_t begin, int64_t end, int) {
    HWY_DYNAMIC_DISPATCH(combine_backward_tokens)(args, begin, end);
  });
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
