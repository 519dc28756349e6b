#include "ops/attention/attention_task.h"

#include <algorithm>

#include "base/integers.h"
#include "ops/host_rows.h"

namespace nemoforge::ops {

std::vector<AttentionTask> attention_tasks(const AttentionArgs& args) {
  std::vector<AttentionTask> tasks;
  const int64_t group_size = args.num_heads / args.num_kv_heads;
  for (int64_t sequence_idx = 0; sequence_idx < args.rows->num_sequences; ++sequence_idx) {
    const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
    const int64_t num_queries = sequence.num_rows() * group_size;
    for (int64_t first_query = 0; first_query < num_queries; first_query += kQueryTile) {
      AttentionTask task{.sequence_idx = sequence_idx, .first_query = first_query};
      task.num_queries = std::min(kQueryTile, num_queries - first_query);
      const int64_t last_row = (first_query + task.num_queries - 1) / group_size;
      const int64_t num_keys = sequence.context_len + last_row + 1;
      const bool decode = sequence_idx < args.rows->num_decode;
      task.num_splits = decode ? ceil_div(num_keys, kKeysPerSplit) : 1;
      for (task.kv_head = 0; task.kv_head < args.num_kv_heads; ++task.kv_head) {
        for (task.split_idx = 0; task.split_idx < task.num_splits; ++task.split_idx) {
          task.key_begin = task.split_idx * kKeysPerSplit;
          task.key_end = decode ? std::min(num_keys, task.key_begin + kKeysPerSplit) : num_keys;
          tasks.push_back(task);
        }
      }
    }
  }
  return tasks;
}

}  // namespace nemoforge::ops
