// A copy with conversion; a task is a range of sequences.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention/kv_cache_append_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/attention/attention.h"
#include "ops/cpu_backend.h"
#include "ops/dtype_dispatch.h"
#include "ops/host_rows.h"
#include "ops/parallel_ranges.h"
#include "ops/simd_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

void append_row(const ConstTensorView& from, int64_t row, const TensorView& cache, int64_t place) {
  dispatch_activation(from.dtype(), [&]<typename From>(std::type_identity<From>) {
    dispatch_activation(cache.dtype(), [&]<typename To>(std::type_identity<To>) {
      convert(from.data<From>() + row * from.row_stride(), cache.data<To>() + place * from.size(1),
              from.size(1));
    });
  });
}

// Sequences [begin, end).
void kv_cache_append_sequences(const KvCacheAppendArgs& args, int64_t begin, int64_t end) {
  const int64_t block_size = args.cache.block_size();
  for (int64_t sequence_idx = begin; sequence_idx < end; ++sequence_idx) {
    const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
    for (int64_t row = sequence.begin; row < sequence.end; ++row) {
      const int64_t position = sequence.context_len + row - sequence.begin;
      const int64_t block = kv_block(*args.rows, sequence_idx, position / block_size);
      const int64_t place = block * block_size + position % block_size;
      append_row(args.k, row, args.cache.k, place);
      append_row(args.v, row, args.cache.v, place);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(kv_cache_append_sequences);

void CpuBackend::kv_cache_append(const KvCacheAppendArgs& args) {
  check(args);
  check_host_rows(*args.rows, args.cache);
  const auto run = [&](int64_t begin, int64_t end, int) {
    HWY_DYNAMIC_DISPATCH(kv_cache_append_sequences)(args, begin, end);
  };
  const int64_t sequence_bytes = 16 * args.k.size(1) * args.rows->num_tokens / args.rows->num_sequences;
  parallel_ranges(pool_, args.rows->num_sequences, items_per_task(sequence_bytes), run);
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
