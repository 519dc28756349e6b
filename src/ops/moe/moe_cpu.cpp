// Dispatch is a counting sort and a gather of rows; combine is a weighted gather. A range of rows is a task.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/moe/moe_cpu.cpp"
#include <cstring>

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

// One token of moe_combine.
template <typename In, typename Out>
struct CombineRow {
  const In* expert_out;
  int64_t expert_stride;
  const int32_t* rows;   // [top_k]
  const float* weights;  // [top_k]
  int64_t top_k;
  const In* shared;  // may be absent
  Out* out;

  template <class Load>
  HWY_INLINE hn::Vec<hn::ScalableTag<float>> sum(const Load& load_at) const {
    const hn::ScalableTag<float> d;
    auto total = hn::Zero(d);
    for (int64_t k = 0; k < top_k; ++k) {
      total = hn::MulAdd(hn::Set(d, weights[k]), load_at(expert_out + rows[k] * expert_stride), total);
    }
    return shared == nullptr ? total : hn::Add(total, load_at(shared));
  }

  HWY_INLINE void write(int64_t hidden_size) const {
    const hn::ScalableTag<float> d;
    for_each_vector(
        d, hidden_size,
        [&](int64_t i)
            HWY_ATTR { store(sum([&](const In* row) HWY_ATTR { return load(d, row + i); }), d, out + i); },
        [&](int64_t i, int64_t rest) HWY_ATTR {
          const auto total = sum([&](const In* row) HWY_ATTR { return load_partial(d, row + i, rest); });
          store_partial(total, d, out + i, rest);
        });
  }
};

void combine_rows(const MoeCombineArgs& args, int64_t begin, int64_t end) {
  const int64_t top_k = args.row_of.size(1);
  dispatch_activation(args.expert_out.dtype(), [&](auto in_type) {
    dispatch_activation(args.out.dtype(), [&](auto out_type) {
      using In = typename decltype(in_type)::type;
      using Out = typename decltype(out_type)::type;
      for (int64_t token = begin; token < end; ++token) {
        const In* shared = args.shared ? args.shared.data<In>() + token * args.shared.row_stride() : nullptr;
        CombineRow<In, Out>{args.expert_out.data<In>(),
                            args.expert_out.row_stride(),
                            args.row_of.data<int32_t>() + token * top_k,
                            args.expert_weights.data<float>() + token * top_k,
                            top_k,
                            shared,
                            args.out.data<Out>() + token * args.out.row_stride()}
            .write(args.out.size(1));
      }
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {
namespace {

// Fills offsets, row_tokens and row_of.
void sort_by_expert(const MoeDispatchArgs& args) {
  const int64_t num_pairs = args.expert_ids.numel();
  const int64_t top_k = args.expert_ids.size(1);
  const int32_t* ids = args.expert_ids.data<int32_t>();
  int32_t* offsets = args.offsets.data<int32_t>();
  std::memset(offsets, 0, static_cast<size_t>(args.num_experts + 1) * sizeof(int32_t));
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    NF_CHECK(ids[pair] >= 0 && ids[pair] < args.num_experts) << ids[pair] << " of " << args.num_experts;
    ++offsets[ids[pair] + 1];
  }
  for (int64_t expert = 0; expert < args.num_experts; ++expert) offsets[expert + 1] += offsets[expert];
  // offsets[e] serves as the next free row of expert e, and ends as the first row of expert e + 1.
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    const int32_t row = offsets[ids[pair]]++;
    args.row_of.data<int32_t>()[pair] = row;
    args.row_tokens.data<int32_t>()[row] = static_cast<int32_t>(pair / top_k);
  }
  std::memmove(offsets + 1, offsets, static_cast<size_t>(args.num_experts) * sizeof(int32_t));
  offsets[0] = 0;
}

}  // namespace

HWY_EXPORT(combine_rows);

void CpuBackend::moe_dispatch(const MoeDispatchArgs& args) {
  check(args);
  sort_by_expert(args);
  const int32_t* row_tokens = args.row_tokens.data<int32_t>();
  const int64_t element_bytes = dtype_bytes(args.x.dtype());
  const int64_t row_bytes = args.x.size(1) * element_bytes;
  const auto* x = static_cast<const char*>(args.x.raw());
  auto* out = static_cast<char*>(args.out.raw());
  parallel_ranges(pool_, args.out.size(0), items_per_task(2 * row_bytes),
                  [&](int64_t begin, int64_t end, int) {
                    for (int64_t row = begin; row < end; ++row) {
                      std::memcpy(out + row * args.out.row_stride() * element_bytes,
                                  x + row_tokens[row] * args.x.row_stride() * element_bytes,
                                  static_cast<size_t>(row_bytes));
                    }
                  });
}

void CpuBackend::moe_combine(const MoeCombineArgs& args) {
  check(args);
  const int32_t* row_of = args.row_of.data<int32_t>();
  for (int64_t pair = 0; pair < args.row_of.numel(); ++pair) {
    NF_CHECK(row_of[pair] >= 0 && row_of[pair] < args.expert_out.size(0))
        << row_of[pair] << " of " << args.expert_out.size(0);
  }
  const int64_t token_bytes =
      args.out.size(1) * (args.row_of.size(1) + 2) * dtype_bytes(args.expert_out.dtype());
  parallel_ranges(pool_, args.out.size(0), items_per_task(token_bytes), [&](int64_t begin, int64_t end, int) {
    HWY_DYNAMIC_DISPATCH(combine_rows)(args, begin, end);
  });
}

}  // namespace nemoforge::ops
#endif
