#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/attention/attention.h"
#include "ops/element_access.h"
#include "ops/host_rows.h"
#include "ops/reference_backend.h"

namespace nemoforge::ops {
namespace {

// The softmax-weighted values of positions 0 .. position for one query head of one row.
void attend(const AttentionArgs& args, int64_t sequence_idx, int64_t row, int64_t position, int64_t head) {
  const int64_t block_size = args.cache.block_size();
  const int64_t kv_size = args.num_kv_heads * args.head_dim;
  const int64_t kv_column = head / (args.num_heads / args.num_kv_heads) * args.head_dim;
  const auto kv_element = [&](const ConstTensorView& cache, int64_t j, int64_t i) {
    const int64_t block = kv_block(*args.rows, sequence_idx, j / block_size);
    return load_element(cache, block, j % block_size * kv_size + kv_column + i);
  };
  std::vector<double> probabilities;
  for (int64_t j = 0; j <= position; ++j) {
    double score = 0;
    for (int64_t i = 0; i < args.head_dim; ++i) {
      score += load_element(args.q, row, head * args.head_dim + i) * kv_element(args.cache.k, j, i);
    }
    probabilities.push_back(score * args.scale);
  }
  const double largest = *std::max_element(probabilities.begin(), probabilities.end());
  double sum = 0;
  for (double& p : probabilities) sum += p = std::exp(p - largest);
  for (int64_t i = 0; i < args.head_dim; ++i) {
    double value = 0;
    for (int64_t j = 0; j <= position; ++j) {
      value += probabilities[static_cast<size_t>(j)] / sum * kv_element(args.cache.v, j, i);
    }
    store_element(args.out, row, head * args.head_dim + i, value);
  }
}

}  // namespace

void ReferenceBackend::attention(const AttentionArgs& args) {
  check(args);
  check_host_rows(*args.rows, args.cache);
  for (int64_t sequence_idx = 0; sequence_idx < args.rows->num_sequences; ++sequence_idx) {
    const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
    for (int64_t row = sequence.begin; row < sequence.end; ++row) {
      const int64_t position = sequence.context_len + row - sequence.begin;
      for (int64_t head = 0; head < args.num_heads; ++head) attend(args, sequence_idx, row, position, head);
    }
  }
}

void ReferenceBackend::kv_cache_append(const KvCacheAppendArgs& args) {
  check(args);
  check_host_rows(*args.rows, args.cache);
  const int64_t block_size = args.cache.block_size();
  const int64_t kv_size = args.k.size(1);
  for (int64_t sequence_idx = 0; sequence_idx < args.rows->num_sequences; ++sequence_idx) {
    const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
    for (int64_t row = sequence.begin; row < sequence.end; ++row) {
      const int64_t position = sequence.context_len + row - sequence.begin;
      const int64_t block = kv_block(*args.rows, sequence_idx, position / block_size);
      for (int64_t i = 0; i < kv_size; ++i) {
        const int64_t column = position % block_size * kv_size + i;
        store_element(args.cache.k, block, column, load_element(args.k, row, i));
        store_element(args.cache.v, block, column, load_element(args.v, row, i));
      }
    }
  }
}

}  // namespace nemoforge::ops
