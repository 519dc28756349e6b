#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/element_access.h"
#include "ops/host_rows.h"
#include "ops/reference_training_backend.h"

namespace nemoforge::ops {
namespace {

// One query head of one row, which sees the sequence's rows up to itself.
void query_backward(const AttentionBackwardArgs& args, const SequenceRows& sequence, int64_t row,
                    int64_t head) {
  const int64_t column = head * args.head_dim;
  const int64_t kv_column = head / (args.num_heads / args.num_kv_heads) * args.head_dim;
  const auto dot = [&](const ConstTensorView& query, const ConstTensorView& keys, int64_t j) {
    double sum = 0;
    for (int64_t i = 0; i < args.head_dim; ++i) {
      sum += load_element(query, row, column + i) * load_element(keys, j, kv_column + i);
    }
    return sum;
  };
  const auto scale = static_cast<double>(args.scale);
  std::vector<double> p;
  for (int64_t j = sequence.begin; j <= row; ++j) p.push_back(scale * dot(args.q, args.k, j));
  const double largest = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& score : p) sum += score = std::exp(score - largest);
  std::vector<double> d_p;
  double mean = 0;
  for (int64_t j = sequence.begin; j <= row; ++j) {
    const auto idx = static_cast<size_t>(j - sequence.begin);
    p[idx] /= sum;
    d_p.push_back(dot(args.d_out, args.v, j));
    mean += p[idx] * d_p[idx];
  }
  for (int64_t j = sequence.begin; j <= row; ++j) {
    const auto idx = static_cast<size_t>(j - sequence.begin);
    const double d_s = scale * p[idx] * (d_p[idx] - mean);
    for (int64_t i = 0; i < args.head_dim; ++i) {
      add_element(args.d_q, row, column + i, d_s * load_element(args.k, j, kv_column + i));
      add_element(args.d_k, j, kv_column + i, d_s * load_element(args.q, row, column + i));
      add_element(args.d_v, j, kv_column + i, p[idx] * load_element(args.d_out, row, column + i));
    }
  }
}

}  // namespace

void ReferenceTrainingBackend::attention_backward(const AttentionBackwardArgs& args) {
  check(args);
  check_host_rows(*args.rows, ConstTensorView());
  for (int64_t sequence_idx = 0; sequence_idx < args.rows->num_sequences; ++sequence_idx) {
    const SequenceRows sequence = sequence_rows(*args.rows, sequence_idx);
    for (int64_t row = sequence.begin; row < sequence.end; ++row) {
      for (int64_t head = 0; head < args.num_heads; ++head) query_backward(args, sequence, row, head);
    }
  }
}

}  // namespace nemoforge::ops
