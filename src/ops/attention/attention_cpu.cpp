// Tasks as attention_task.h cuts them. Where the keys of a decode row are split, each task leaves its largest
// scores, sums and output, and these are combined in the order of the splits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention/attention_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/attention/attention.h"
#include "ops/attention/attention_task.h"
#include "ops/attention/attention_tile-inl.h"
#include "ops/cpu_backend.h"
#include "ops/dtype_dispatch.h"
#include "ops/host_rows.h"
#include "ops/parallel_ranges.h"
#include "ops/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Where a query's head_dim elements are in q and out.
struct QueryPlace {
  int64_t row = 0;
  int64_t column = 0;
};

QueryPlace query_place(const AttentionArgs& args, const AttentionTask& task, int64_t query) {
  const int64_t group_size = args.num_heads / args.num_kv_heads;
  const int64_t head = task.kv_head * group_size + query % group_size;
  return {sequence_rows(*args.rows, task.sequence_idx).begin + query / group_size, head * args.head_dim};
}

// Loads the queries, transposed and scaled, and clears what is accumulated.
void begin_queries(const AttentionArgs& args, const AttentionTask& task, AttentionBuffers& buffers) {
  std::fill_n(buffers.queries, args.head_dim * kQueryTile, 0.0f);
  std::fill_n(buffers.output, args.head_dim * kQueryTile, 0.0f);
  std::fill_n(buffers.largest, kQueryTile, kMaskedScore);
  std::fill_n(buffers.sums, kQueryTile, 0.0f);
  dispatch_activation(args.q.dtype(), [&]<typename T>(std::type_identity<T>) {
    for (int64_t i = 0; i < task.num_queries; ++i) {
      const QueryPlace place = query_place(args, task, task.first_query + i);
      const T* q = args.q.data<T>() + place.row * args.q.row_stride() + place.column;
      for (int64_t p = 0; p < args.head_dim; ++p) {
        buffers.queries[p * kQueryTile + i] = static_cast<float>(q[p]) * args.scale;
      }
    }
  });
}

// Keys and values [begin, begin + count) of the task's KV head as fp32.
void load_keys_and_values(const AttentionArgs& args, const AttentionTask& task, int64_t begin, int64_t count,
                          AttentionBuffers& buffers) {
  const int64_t block_size = args.cache.block_size();
  const int64_t kv_size = args.num_kv_heads * args.head_dim;
  dispatch_activation(args.cache.k.dtype(), [&]<typename T>(std::type_identity<T>) {
    const T* k = args.cache.k.data<T>() + task.kv_head * args.head_dim;
    const T* v = args.cache.v.data<T>() + task.kv_head * args.head_dim;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t block = kv_block(*args.rows, task.sequence_idx, (begin + i) / block_size);
      const int64_t offset = (block * block_size + (begin + i) % block_size) * kv_size;
      convert(k + offset, buffers.keys + i * args.head_dim, args.head_dim);
      convert(v + offset, buffers.values + i * args.head_dim, args.head_dim);
    }
  });
}

// The last key of the tile at `begin` that each query sees; returns whether some query does not see the whole
// tile.
bool set_last_keys(const AttentionArgs& args, const AttentionTask& task, int64_t begin, int64_t count,
                   AttentionBuffers& buffers) {
  const int64_t group_size = args.num_heads / args.num_kv_heads;
  const int64_t context_len = sequence_rows(*args.rows, task.sequence_idx).context_len;
  // The first query is the one that sees least.
  if (context_len + task.first_query / group_size >= begin + count - 1) return false;
  std::fill_n(buffers.last_keys, kQueryTile, static_cast<float>(kKeyTile));
  for (int64_t i = 0; i < task.num_queries; ++i) {
    const int64_t position = context_len + (task.first_query + i) / group_size;
    buffers.last_keys[i] = static_cast<float>(std::clamp(position - begin, int64_t{-1}, kKeyTile));
  }
  return true;
}

void write_output(const AttentionArgs& args, const AttentionTask& task, const AttentionBuffers& buffers) {
  dispatch_activation(args.out.dtype(), [&]<typename T>(std::type_identity<T>) {
    for (int64_t i = 0; i < task.num_queries; ++i) {
      const QueryPlace place = query_place(args, task, task.first_query + i);
      T* out = args.out.data<T>() + place.row * args.out.row_stride() + place.column;
      for (int64_t p = 0; p < args.head_dim; ++p) {
        out[p] = static_cast<T>(buffers.output[p * kQueryTile + i] / buffers.sums[i]);
      }
    }
  });
}

// A split's result is [head_dim + 2, split_columns]: the output, then the largest scores and the sums of
// exponentials.
int64_t split_columns(const AttentionArgs& args) {
  return round_up(std::min(kQueryTile, args.num_heads / args.num_kv_heads), kPaddedLanes);
}

int64_t split_floats(const AttentionArgs& args) {
  return (args.head_dim + 2) * split_columns(args);
}

int64_t attention_scratch_floats(const AttentionArgs& args) {
  return round_up(AttentionBuffers::num_floats(args.head_dim), kPaddedLanes);
}

// `split` is where the task's result goes if it is one of several splits.
void attention_run_task(const AttentionArgs& args, const AttentionTask& task, float* scratch, float* split) {
  AttentionBuffers buffers(scratch, args.head_dim);
  begin_queries(args, task, buffers);
  for (int64_t begin = task.key_begin; begin < task.key_end; begin += kKeyTile) {
    const int64_t count = std::min(kKeyTile, task.key_end - begin);
    load_keys_and_values(args, task, begin, count, buffers);
    const bool masked = set_last_keys(args, task, begin, count, buffers);
    attend_tile(buffers, round_up(task.num_queries, kPaddedLanes), count, args.head_dim, masked);
  }
  if (task.num_splits == 1) {
    write_output(args, task, buffers);
  } else {
    const int64_t columns = split_columns(args);
    for (int64_t p = 0; p < args.head_dim; ++p) {
      std::copy_n(buffers.output + p * kQueryTile, columns, split + p * columns);
    }
    std::copy_n(buffers.largest, columns, split + args.head_dim * columns);
    std::copy_n(buffers.sums, columns, split + (args.head_dim + 1) * columns);
  }
}

// Writes the output of the task's queries from the results of its num_splits splits, which lie one after
// another.
void attention_combine(const AttentionArgs& args, const AttentionTask& task, const float* splits,
                       float* scratch) {
  AttentionBuffers buffers(scratch, args.head_dim);
  const int64_t columns = split_columns(args);
  std::fill_n(buffers.output, args.head_dim * kQueryTile, 0.0f);
  for (int64_t i = 0; i < task.num_queries; ++i) {
    float largest = kMaskedScore;
    for (int64_t s = 0; s < task.num_splits; ++s) {
      largest = std::max(largest, splits[s * split_floats(args) + args.head_dim * columns + i]);
    }
    float sum = 0;
    for (int64_t s = 0; s < task.num_splits; ++s) {
      const float* output = splits + s * split_floats(args) + i;
      const float weight = std::exp(output[args.head_dim * columns] - largest);
      sum += weight * output[(args.head_dim + 1) * columns];
      for (int64_t p = 0; p < args.head_dim; ++p) {
        buffers.output[p * kQueryTile + i] += weight * output[p * columns];
      }
    }
    buffers.sums[i] = sum;
  }
  write_output(args, task, buffers);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(split_floats);
HWY_EXPORT(attention_scratch_floats);
HWY_EXPORT(attention_run_task);
HWY_EXPORT(attention_combine);

void CpuBackend::attention(const AttentionArgs& args) {
  check(args);
  check_host_rows(*args.rows, args.cache);
  const std::vector<AttentionTask> tasks = attention_tasks(args);
  const auto num_tasks = static_cast<int64_t>(tasks.size());
  const bool any_split =
      std::any_of(tasks.begin(), tasks.end(), [](const AttentionTask& task) { return task.num_splits > 1; });
  const int64_t thread_floats = HWY_DYNAMIC_DISPATCH(attention_scratch_floats)(args);
  const int64_t floats_of_split = any_split ? HWY_DYNAMIC_DISPATCH(split_floats)(args) : 0;
  float* scratch = thread_scratch(pool_.num_threads() * thread_floats + num_tasks * floats_of_split);
  float* splits = scratch + pool_.num_threads() * thread_floats;

  int64_t num_scores = 0;
  for (const AttentionTask& task : tasks) num_scores += (task.key_end - task.key_begin) * task.num_queries;
  // A product with a key and one with a value take about as long as moving half a byte for each element.
  const int64_t min_tasks = items_per_task(num_scores * args.head_dim / 2 / std::max<int64_t>(1, num_tasks));
  const auto run = [&](int64_t begin, int64_t end, int thread_idx) {
    for (int64_t i = begin; i < end; ++i) {
      HWY_DYNAMIC_DISPATCH(attention_run_task)
      (args, tasks[static_cast<size_t>(i)], scratch + thread_idx * thread_floats,
       splits + i * floats_of_split);
    }
  };
  parallel_ranges(pool_, num_tasks, min_tasks, run);
  if (!any_split) return;
  const auto combine = [&](int64_t begin, int64_t end, int thread_idx) {
    for (int64_t i = begin; i < end; ++i) {
      const AttentionTask& task = tasks[static_cast<size_t>(i)];
      if (task.split_idx != 0 || task.num_splits == 1) continue;
      HWY_DYNAMIC_DISPATCH(attention_combine)
      (args, task, splits + i * floats_of_split, scratch + thread_idx * thread_floats);
    }
  };
  parallel_ranges(pool_, num_tasks, items_per_task(floats_of_split * 4), combine);
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
