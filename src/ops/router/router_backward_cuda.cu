// A thread a token: its few experts one by one.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/router/router_backward_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 128;

__global__ void router_backward_tokens(const float* logits, int64_t logits_stride, const int32_t* expert_ids,
                                       const float* d_weights, int64_t d_weights_stride, int num_tokens,
                                       int top_k, bool normalize, float scale, float* d_logits,
                                       int64_t d_logits_stride) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (token >= num_tokens) return;
  const float* row = logits + token * logits_stride;
  const int32_t* ids = expert_ids + token * top_k;
  const float* d_row = d_weights + token * d_weights_stride;
  const auto score = [&](int k) { return 1 / (1 + expf(-row[ids[k]])); };
  float sum = 1e-20f;
  float products = 0;
  for (int k = 0; k < top_k; ++k) {
    sum += score(k);
    products += d_row[k] * score(k);
  }
  for (int k = 0; k < top_k; ++k) {
    const float s = score(k);
    const float d_score = normalize ? (d_row[k] - products / sum) / sum : d_row[k];
    d_logits[token * d_logits_stride + ids[k]] += scale * d_score * s * (1 - s);
  }
}

}  // namespace

void router_backward_cuda(const RouterBackwardArgs& args, CudaTrainingContext& context) {
  const auto num_tokens = narrow<int32_t>(args.logits.size(0));
  if (num_tokens == 0) return;
  router_backward_tokens<<<static_cast<unsigned>(ceil_div(num_tokens, kThreads)), kThreads, 0,
                           context.stream()>>>(
      args.logits.data<float>(), args.logits.row_stride(), args.expert_ids.data<int32_t>(),
      args.d_expert_weights.data<float>(), args.d_expert_weights.row_stride(), num_tokens,
      static_cast<int>(args.expert_ids.size(1)), args.normalize, args.scale, args.d_logits.data<float>(),
      args.d_logits.row_stride());
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
