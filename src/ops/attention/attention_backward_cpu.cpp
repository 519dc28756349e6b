#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention/attention_backward_cpu.cpp"
#include <algorithm>
#include <cmath>
#include <vector>

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "base/integers.h"
#include "ops/cpu_training_backend.h"
#include "ops/host_rows.h"
#include "ops/simd_rows-inl.h"
#include "ops/small_matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Queries whose scores against all their keys are in memory at once.
constexpr int64_t kQueryBlock = 32;

// Scratch of a task for sequences of up to max_len rows.
struct AttentionScratch {
  AttentionScratch(float* scratch, int64_t max_len, int64_t head_dim)
      : len_stride(round_up(max_len, kPaddedLanes)), head_stride(round_up(head_dim, kPaddedLanes)) {
    keys_t = scratch;
    values_t = keys_t + head_dim * len_stride;
    keys = values_t + head_dim * len_stride;
    queries = keys + max_len * head_stride;
    d_out = queries + kQueryBlock * head_stride;
    p = d_out + kQueryBlock * head_stride;
    d_p = p + kQueryBlock * len_stride;
  }
  static int64_t num_floats(int64_t max_len, int64_t head_dim) {
    const int64_t len_stride = round_up(max_len, kPaddedLanes);
    const int64_t head_stride = round_up(head_dim, kPaddedLanes);
    return 2 * head_dim * len_stride + max_len * head_stride + 2 * kQueryBlock * (head_stride + len_stride);
  }

  int64_t len_stride;
  int64_t head_stride;
  float* keys_t;    // [head_dim, len]
  float* values_t;  // [head_dim, len]
  float* keys;      // [len, head_dim]
  float* queries;   // [query, head_dim]
  float* d_out;     // [query, head_dim]
  float* p;         // [query, len]: scores, then probabilities
  float* d_p;       // [query, len]: d_p, then scale * d_s
};

void load_keys(const AttentionBackwardArgs& args, const SequenceRows& sequence, int64_t column,
               AttentionScratch& scratch) {
  for (int64_t j = 0; j < sequence.num_rows(); ++j) {
    const float* k = args.k.data<float>() + (sequence.begin + j) * args.k.row_stride() + column;
    const float* v = args.v.data<float>() + (sequence.begin + j) * args.v.row_stride() + column;
    std::copy_n(k, args.head_dim, scratch.keys + j * scratch.head_stride);
    for (int64_t i = 0; i < args.head_dim; ++i) {
      scratch.keys_t[i * scratch.len_stride + j] = k[i];
      scratch.values_t[i * scratch.len_stride + j] = v[i];
    }
  }
}

// The first num_keys scores of a query become probabilities, and d_p becomes scale * d_s; beyond them zeros,
// up to num_block_keys.
void softmax_backward(float scale, int64_t num_keys, int64_t num_block_keys, float* HWY_RESTRICT p,
                      float* HWY_RESTRICT d_p) {
  for (int64_t j = 0; j < num_keys; ++j) p[j] *= scale;
  exp_row(p, *std::max_element(p, p + num_keys), p, num_keys);
  float sum = 0;
  for (int64_t j = 0; j < num_keys; ++j) sum += p[j];
  for (int64_t j = 0; j < num_keys; ++j) p[j] /= sum;
  const float mean = dot(p, d_p, num_keys);
  for (int64_t j = 0; j < num_keys; ++j) d_p[j] = scale * p[j] * (d_p[j] - mean);
  std::fill(p + num_keys, p + num_block_keys, 0.0f);
  std::fill(d_p + num_keys, d_p + num_block_keys, 0.0f);
}

// Queries [begin, begin + count) of one head, counted from the sequence's first row.
void query_block_backward(const AttentionBackwardArgs& args, const SequenceRows& sequence, int64_t head,
                          int64_t kv_column, int64_t begin, int64_t count, AttentionScratch& scratch) {
  const int64_t column = head * args.head_dim;
  const int64_t row = sequence.begin + begin;
  const int64_t num_keys = begin + count;
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(args.q.data<float>() + (row + i) * args.q.row_stride() + column, args.head_dim,
                scratch.queries + i * scratch.head_stride);
    std::copy_n(args.d_out.data<float>() + (row + i) * args.d_out.row_stride() + column, args.head_dim,
                scratch.d_out + i * scratch.head_stride);
    std::fill_n(scratch.p + i * scratch.len_stride, num_keys, 0.0f);
    std::fill_n(scratch.d_p + i * scratch.len_stride, num_keys, 0.0f);
  }
  matmul_add({scratch.queries, scratch.head_stride, 1}, scratch.keys_t, scratch.len_stride, scratch.p,
             scratch.len_stride, count, num_keys, args.head_dim);
  matmul_add({scratch.d_out, scratch.head_stride, 1}, scratch.values_t, scratch.len_stride, scratch.d_p,
             scratch.len_stride, count, num_keys, args.head_dim);
  for (int64_t i = 0; i < count; ++i) {
    softmax_backward(args.scale, begin + i + 1, num_keys, scratch.p + i * scratch.len_stride,
                     scratch.d_p + i * scratch.len_stride);
  }
  matmul_add({scratch.d_p, scratch.len_stride, 1}, scratch.keys, scratch.head_stride,
             args.d_q.data<float>() + row * args.d_q.row_stride() + column, args.d_q.row_stride(), count,
             args.head_dim, num_keys);
  matmul_add({scratch.d_p, 1, scratch.len_stride}, scratch.queries, scratch.head_stride,
             args.d_k.data<float>() + sequence.begin * args.d_k.row_stride() + kv_column,
             args.d_k.row_stride(), num_keys, args.head_dim, count);
  matmul_add({scratch.p, 1, scratch.len_stride}, scratch.d_out, scratch.head_stride,
             args.d_v.data<float>() + sequence.begin * args.d_v.row_stride() + kv_column,
             args.d_v.row_stride(), num_keys, args.head_dim, count);
}

// One KV head of one sequence, with the query heads that share it.
void attention_backward_head(const AttentionBackwardArgs& args, int64_t sequence_idx, int64_t kv_head,
                             float* buffer) {
  const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
  AttentionScratch scratch(buffer, args.rows->max_query_len, args.head_dim);
  const int64_t kv_column = kv_head * args.head_dim;
  const int64_t group_size = args.num_heads / args.num_kv_heads;
  load_keys(args, sequence, kv_column, scratch);
  for (int64_t head = kv_head * group_size; head < (kv_head + 1) * group_size; ++head) {
    for (int64_t begin = 0; begin < sequence.num_rows(); begin += kQueryBlock) {
      const int64_t count = std::min(kQueryBlock, sequence.num_rows() - begin);
      query_block_backward(args, sequence, head, kv_column, begin, count, scratch);
    }
  }
}

int64_t attention_backward_floats(int64_t max_len, int64_t head_dim) {
  return AttentionScratch::num_floats(max_len, head_dim);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nemoforge::ops {

HWY_EXPORT(attention_backward_head);
HWY_EXPORT(attention_backward_floats);

void CpuTrainingBackend::attention_backward(const AttentionBackwardArgs& args) {
  check(args);
  check_host_rows(*args.rows, ConstTensorView());
  const int64_t buffer_size =
      HWY_DYNAMIC_DISPATCH(attention_backward_floats)(args.rows->max_query_len, args.head_dim);
  std::vector<float> buffers(static_cast<size_t>(pool_.num_threads() * buffer_size));
  const int64_t num_tasks = args.rows->num_sequences * args.num_kv_heads;
  pool_.parallel_for(num_tasks, [&](int64_t task_idx, int thread_idx) {
    HWY_DYNAMIC_DISPATCH(attention_backward_head)
    (args, task_idx / args.num_kv_heads, task_idx % args.num_kv_heads,
     buffers.data() + thread_idx * buffer_size);
  });
}

}  // namespace nemoforge::ops
#endif  // HWY_ONCE
