// Attention's backward in fp32 for any dtype and head_dim <= 32 * kMaxPerLane (checked before launch). A warp
// owns one (row, query head) for d_q and one (row, KV head) for d_k and d_v: lanes take one key, or one query
// row, each for the scores, and head_dim / 32 channels each for the sums. Where they apply, the tensor cores'
// kernels take its place.
#include "base/integers.h"
#include "ops/attention/attention_backward_cuda.h"
#include "ops/attention/attention_backward_tiles_cuda.h"
#include "ops/cuda_check.h"
#include "ops/cuda_shape_limits.h"
#include "ops/document_rows.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/gradient_elements.cuh"

namespace nemoforge::ops {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kMaxHeadDim = kCudaShapeLimits.head_dim;
constexpr int kMaxPerLane = kMaxHeadDim / 32;

template <typename T>
struct RowProblem {
  DeviceRows<const T> q, k, v, d_out;
  DocumentRows documents;
  int num_heads, heads_per_kv_head, head_dim;
  float scale;
  float* log_sums;  // [num_rows, num_heads]: log of the sum of exp(score)
  float* deltas;    // [num_rows, num_heads]: sum_j p_j d_p_j
};

// Two rows that a warp takes products with, in shared memory.
struct OwnRows {
  float first[kMaxHeadDim];
  float second[kMaxHeadDim];
};

template <typename T>
__device__ void read_own_rows(const DeviceRows<const T>& first, const DeviceRows<const T>& second, int row,
                              int column, int head_dim, int lane, OwnRows& own) {
  for (int i = lane; i < head_dim; i += 32) {
    own.first[i] = to_float(first.at(row, column + i));
    own.second[i] = to_float(second.at(row, column + i));
  }
  __syncwarp();  // every lane reads what the others wrote
}

template <typename T>
__device__ float product_with(const float* own, const DeviceRows<const T>& rows, int row, int column,
                              int head_dim) {
  float sum = 0;
  for (int i = 0; i < head_dim; ++i) sum += own[i] * to_float(rows.at(row, column + i));
  return sum;
}

__device__ inline float warp_max(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

// sums[i] += weight of each lane times channel lane + 32 i of that lane's row, for the first num_lanes lanes,
// which have consecutive rows.
template <typename T>
__device__ void add_weighted_rows(float (&sums)[kMaxPerLane], float weight, const DeviceRows<const T>& rows,
                                  int first_row, int num_lanes, int column, int head_dim, int lane) {
  for (int other = 0; other < num_lanes; ++other) {
    const float own_weight = __shfl_sync(0xffffffffu, weight, other);
#pragma unroll
    for (int i = 0; i < kMaxPerLane; ++i) {
      const int channel = lane + i * 32;
      if (channel < head_dim) sums[i] += own_weight * to_float(rows.at(first_row + other, column + channel));
    }
  }
}

template <typename T>
__device__ void add_channels(const float (&sums)[kMaxPerLane], const DeviceRows<T>& gradient, int row,
                             int column, int head_dim, int lane) {
#pragma unroll
  for (int i = 0; i < kMaxPerLane; ++i) {
    const int channel = lane + i * 32;
    if (channel < head_dim) add_to(gradient.at(row, column + channel), sums[i]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) query_gradients(RowProblem<T> problem, DeviceRows<T> d_q) {
  __shared__ OwnRows own_rows[kWarps];
  await_previous_kernel();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (pair >= static_cast<int64_t>(problem.documents.num_rows) * problem.num_heads) return;
  const auto row = static_cast<int>(pair / problem.num_heads);
  const auto head = static_cast<int>(pair % problem.num_heads);
  const int head_dim = problem.head_dim;
  const int column = head * head_dim;
  const int kv_column = head / problem.heads_per_kv_head * head_dim;
  const int begin = document_of(problem.documents, row).begin;
  OwnRows& own = own_rows[warp];
  read_own_rows(problem.q, problem.d_out, row, column, head_dim, lane, own);

  float maximum = -INFINITY;
  float sum = 0;
  float weighted = 0;
  for (int key = begin + lane; key <= row; key += 32) {
    const float score = problem.scale * product_with(own.first, problem.k, key, kv_column, head_dim);
    const float d_weight = product_with(own.second, problem.v, key, kv_column, head_dim);
    const float larger = fmaxf(maximum, score);
    const float rescale = expf(maximum - larger);
    const float weight = expf(score - larger);
    sum = sum * rescale + weight;
    weighted = weighted * rescale + weight * d_weight;
    maximum = larger;
  }
  const float largest = warp_max(maximum);  // finite: the row sees itself
  const float rescale = expf(maximum - largest);
  sum = warp_sum(sum * rescale);
  const float delta = warp_sum(weighted * rescale) / sum;
  const float log_sum = largest + logf(sum);
  if (lane == 0) {
    problem.log_sums[pair] = log_sum;
    problem.deltas[pair] = delta;
  }

  float sums[kMaxPerLane] = {};
  for (int first_key = begin; first_key <= row; first_key += 32) {
    const int key = first_key + lane;
    float d_score = 0;
    if (key <= row) {
      const float score = problem.scale * product_with(own.first, problem.k, key, kv_column, head_dim);
      const float d_weight = product_with(own.second, problem.v, key, kv_column, head_dim);
      d_score = problem.scale * expf(score - log_sum) * (d_weight - delta);
    }
    add_weighted_rows(sums, d_score, problem.k, first_key, min(32, row - first_key + 1), kv_column, head_dim,
                      lane);
  }
  add_channels(sums, d_q, row, column, head_dim, lane);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    key_gradients(RowProblem<T> problem, DeviceRows<T> d_k, DeviceRows<T> d_v) {
  __shared__ OwnRows own_rows[kWarps];
  await_previous_kernel();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int num_kv_heads = problem.num_heads / problem.heads_per_kv_head;
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (pair >= static_cast<int64_t>(problem.documents.num_rows) * num_kv_heads) return;
  const auto key = static_cast<int>(pair / num_kv_heads);
  const auto kv_head = static_cast<int>(pair % num_kv_heads);
  const int head_dim = problem.head_dim;
  const int kv_column = kv_head * head_dim;
  const int end = document_of(problem.documents, key).end;
  OwnRows& own = own_rows[warp];
  read_own_rows(problem.k, problem.v, key, kv_column, head_dim, lane, own);

  float d_key[kMaxPerLane] = {};
  float d_value[kMaxPerLane] = {};
  for (int i = 0; i < problem.heads_per_kv_head; ++i) {
    const int head = kv_head * problem.heads_per_kv_head + i;
    const int column = head * head_dim;
    for (int first_row = key; first_row < end; first_row += 32) {
      const int row = first_row + lane;
      float weight = 0;
      float d_score = 0;
      if (row < end) {
        const int64_t place = static_cast<int64_t>(row) * problem.num_heads + head;
        const float score = problem.scale * product_with(own.first, problem.q, row, column, head_dim);
        const float d_weight = product_with(own.second, problem.d_out, row, column, head_dim);
        weight = expf(score - problem.log_sums[place]);
        d_score = problem.scale * weight * (d_weight - problem.deltas[place]);
      }
      const int num_lanes = min(32, end - first_row);
      add_weighted_rows(d_key, d_score, problem.q, first_row, num_lanes, column, head_dim, lane);
      add_weighted_rows(d_value, weight, problem.d_out, first_row, num_lanes, column, head_dim, lane);
    }
  }
  add_channels(d_key, d_k, key, kv_column, head_dim, lane);
  add_channels(d_value, d_v, key, kv_column, head_dim, lane);
}

template <typename T>
void launch(const AttentionBackwardArgs& args, float* log_sums, OpStream& stream) {
  const int64_t num_rows = args.rows->num_tokens;
  const RowProblem<T> problem{device_rows<T>(args.q),
                              device_rows<T>(args.k),
                              device_rows<T>(args.v),
                              device_rows<T>(args.d_out),
                              {args.rows->cu_seqlens.data<int32_t>(),
                               static_cast<int>(args.rows->num_sequences), static_cast<int>(num_rows)},
                              static_cast<int>(args.num_heads),
                              static_cast<int>(args.num_heads / args.num_kv_heads),
                              static_cast<int>(args.head_dim),
                              args.scale,
                              log_sums,
                              log_sums + num_rows * args.num_heads};
  const auto blocks = [num_rows](int64_t heads) {
    return dim3(static_cast<unsigned>(ceil_div<int64_t>(num_rows * heads, kWarps)));
  };
  stream.launch(query_gradients<T>, blocks(args.num_heads), kThreads, 0, problem, device_rows<T>(args.d_q));
  stream.launch(key_gradients<T>, blocks(args.num_kv_heads), kThreads, 0, problem, device_rows<T>(args.d_k),
                device_rows<T>(args.d_v));
}

}  // namespace

void attention_backward_cuda(const AttentionBackwardArgs& args, CudaTrainingContext& context) {
  NF_CHECK(args.head_dim <= kMaxHeadDim) << args.head_dim << " channels a head, at most " << kMaxHeadDim;
  const int64_t num_rows = args.rows->num_tokens;
  if (num_rows == 0) return;
  if (attention_backward_has_tiles(args)) return attention_backward_tiles(args, context);
  auto* log_sums = static_cast<float*>(
      context.memory(2 * num_rows * args.num_heads * static_cast<int64_t>(sizeof(float))));
  dispatch_activation(args.q.dtype(), [&](auto tag) {
    launch<DeviceType<typename decltype(tag)::type>>(args, log_sums, context.stream());
  });
}

}  // namespace nemoforge::ops
