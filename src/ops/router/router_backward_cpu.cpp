// A range of tokens is a task; a token's few experts are computed one by one.
#include <cmath>

#include "base/check.h"
#include "ops/cpu_training_backend.h"
#include "ops/parallel_ranges.h"

namespace nemoforge::ops {
namespace {

void token_backward(const RouterBackwardArgs& args, int64_t token) {
  const int64_t top_k = args.expert_ids.size(1);
  const float* logits = args.logits.data<float>() + token * args.logits.row_stride();
  const int32_t* ids = args.expert_ids.data<int32_t>() + token * top_k;
  const float* d_weights = args.d_expert_weights.data<float>() + token * args.d_expert_weights.row_stride();
  float* d_logits = args.d_logits.data<float>() + token * args.d_logits.row_stride();
  float sum = 1e-20f;
  float products = 0;
  const auto score = [&](int64_t k) { return 1 / (1 + std::exp(-logits[ids[k]])); };
  for (int64_t k = 0; k < top_k; ++k) {
    sum += score(k);
    products += d_weights[k] * score(k);
  }
  for (int64_t k = 0; k < top_k; ++k) {
    const float s = score(k);
    const float d_score = args.normalize ? (d_weights[k] - products / sum) / sum : d_weights[k];
    d_logits[ids[k]] += args.scale * d_score * s * (1 - s);
  }
}

}  // namespace

void CpuTrainingBackend::router_backward(const RouterBackwardArgs& args) {
  check(args);
  const int32_t* ids = args.expert_ids.data<int32_t>();
  for (int64_t i = 0; i < args.expert_ids.numel(); ++i) {
    NF_CHECK(ids[i] >= 0 && ids[i] < args.logits.size(1)) << ids[i] << " of " << args.logits.size(1);
  }
  const auto run = [&](int64_t begin, int64_t end, int) {
    for (int64_t token = begin; token < end; ++token) token_backward(args, token);
  };
  parallel_ranges(pool_, args.logits.size(0), items_per_task(args.expert_ids.size(1) * 256), run);
}

}  // namespace nemoforge::ops
