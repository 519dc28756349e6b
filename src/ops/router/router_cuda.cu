// Choice of experts: one warp a token, experts strided over the lanes in registers; top_k rounds of a
// warp-wide maximum of ordered integers (redux). num_experts <= 32 * kMaxPerLane, num_groups <= 32 (checked
// before launch). Launch-bound.
#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/router/router.h"

namespace nemoforge::ops {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kFewPerLane = 4;
constexpr int kMaxPerLane = 16;
static_assert(32 * kMaxPerLane == kCudaShapeLimits.num_experts);

struct RouterShape {
  int num_tokens;
  int num_experts;
  int num_groups;
  int top_k_groups;
  int top_k;
  bool normalize;
  float scale;
};

// Whether `a` stands before `b` in the order of choice: larger values first, NaN before all, ties by lower
// index.
__device__ bool comes_before(float a, int a_idx, float b, int b_idx) {
  const bool a_nan = isnan(a);
  const bool b_nan = isnan(b);
  if (a_nan != b_nan) return a_nan;
  if (!a_nan && a != b) return a > b;
  return a_idx < b_idx;
}

// The first of all lanes' candidates in the order of choice.
__device__ void warp_first(float& value, int& index) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, offset);
    const int other_idx = __shfl_xor_sync(0xffffffffu, index, offset);
    if (comes_before(other, other_idx, value, index)) {
      value = other;
      index = other_idx;
    }
  }
}

// An integer that is larger where the value comes earlier in the order of choice; never 0.
__device__ unsigned order_of(float value) {
  if (isnan(value)) return 0xffffffffu;
  const unsigned bits = __float_as_uint(value + 0.0f);  // -0 is 0
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Sum of the two largest choices of group `group` (in shared memory), by one lane.
__device__ float group_score(const float* choice, int group, int group_size) {
  float first = -INFINITY;
  float second = -INFINITY;
  for (int i = 0; i < group_size; ++i) {
    const float value = choice[group * group_size + i];
    if (isnan(value) || value > first) {
      second = first;
      first = value;
    } else if (value > second) {
      second = value;
    }
  }
  return group_size > 1 ? first + second : first;
}

// Rounded once from double: two experts whose scores tie in the reference tie here, and go to the lower id.
__device__ float sigmoid(float logit) {
  return static_cast<float>(1.0 / (1.0 + exp(-static_cast<double>(logit))));
}

// kPerLane: experts that a lane has.
template <int kPerLane>
__global__ void choose_experts(RouterShape shape, const float* logits, int64_t logits_stride,
                               const float* correction_bias, int32_t* expert_ids, float* expert_weights) {
  extern __shared__ float shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int token = static_cast<int>(blockIdx.x) * kWarpsPerBlock + warp;
  float bias[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + i * 32;
    bias[i] = expert < shape.num_experts ? correction_bias[expert] : 0.0f;
  }
  await_previous_kernel();
  if (token >= shape.num_tokens) return;
  float* choice = shared + warp * shape.num_experts;

  float logit[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + i * 32;
    logit[i] = expert < shape.num_experts ? logits[token * logits_stride + expert] : 0.0f;
  }
  float scores[kPerLane];
  unsigned order[kPerLane];  // 0: not to be chosen
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + i * 32;
    scores[i] = sigmoid(logit[i]);
    const float value = scores[i] + bias[i];
    order[i] = expert < shape.num_experts ? order_of(value) : 0;
    if (shape.num_groups > 1 && expert < shape.num_experts) choice[expert] = value;
  }
  __syncwarp();  // every choice is written before any lane reads another's

  const int group_size = shape.num_experts / shape.num_groups;
  unsigned competing = 0xffffffffu;  // one bit a group
  if (shape.num_groups > 1) {
    float score = lane < shape.num_groups ? group_score(choice, lane, group_size) : -INFINITY;
    bool taken = lane >= shape.num_groups;
    competing = 0;
    for (int round = 0; round < shape.top_k_groups; ++round) {
      float best = taken ? -INFINITY : score;
      int best_idx = taken ? 1 << 20 : lane;
      warp_first(best, best_idx);
      if (best_idx == lane) taken = true;
      if (best_idx < 32) competing |= 1u << best_idx;
    }
  }

#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + i * 32;
    if (shape.num_groups > 1 && (competing >> (expert / group_size) & 1u) == 0) order[i] = 0;
  }

  float kept_score = 0;
  int kept_id = 0;
  float sum = 0;
  for (int round = 0; round < shape.top_k; ++round) {
    unsigned best = 0;
    int best_idx = 1 << 20;
    float best_score = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (order[i] <= best) continue;  // of equals the first, which has the lower index
      best = order[i];
      best_idx = lane + i * 32;
      best_score = scores[i];
    }
    const unsigned first = __reduce_max_sync(0xffffffffu, best);
    const int chosen = static_cast<int>(
        __reduce_min_sync(0xffffffffu, best == first ? static_cast<unsigned>(best_idx) : ~0u));
    const float score = __shfl_sync(0xffffffffu, best_score, chosen % 32);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (lane + i * 32 == chosen) order[i] = 0;
    }
    sum += score;
    if (round % 32 == lane) {
      kept_score = score;
      kept_id = chosen;
    }
  }
  if (lane < shape.top_k) {
    const float weight = shape.normalize ? kept_score / (sum + 1e-20f) : kept_score;
    expert_ids[token * shape.top_k + lane] = kept_id;
    expert_weights[token * shape.top_k + lane] = weight * shape.scale;
  }
}

}  // namespace

void CudaBackend::router(const RouterArgs& args) {
  check(args);
  const auto num_tokens = static_cast<int>(args.logits.size(0));
  const auto num_experts = static_cast<int>(args.logits.size(1));
  NF_CHECK(num_experts <= kCudaShapeLimits.num_experts &&
           args.num_groups <= kCudaShapeLimits.num_expert_groups && args.top_k <= kCudaShapeLimits.top_k)
      << num_experts << " experts, " << args.num_groups << " groups, top " << args.top_k;
  if (num_tokens == 0) return;
  const RouterShape shape{num_tokens,
                          num_experts,
                          static_cast<int>(args.num_groups),
                          static_cast<int>(args.top_k_groups),
                          static_cast<int>(args.top_k),
                          args.normalize,
                          args.scale};
  const auto kernel =
      num_experts <= 32 * kFewPerLane ? choose_experts<kFewPerLane> : choose_experts<kMaxPerLane>;
  stream_.launch(kernel, static_cast<unsigned>(ceil_div(num_tokens, kWarpsPerBlock)), kWarpsPerBlock * 32,
                 static_cast<int64_t>(kWarpsPerBlock * num_experts * sizeof(float)), shape,
                 args.logits.data<float>(), args.logits.row_stride(), args.correction_bias.data<float>(),
                 args.expert_ids.data<int32_t>(), args.expert_weights.data<float>());
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
