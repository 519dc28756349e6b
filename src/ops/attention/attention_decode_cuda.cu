// Split-KV decode attention. A block takes the keys of a split (keys_of_split: some multiple of kSplitKeys)
// of one key head of one sequence, for all the query heads that share it: keys and values are read once,
// through shared memory, kTileKeys at a time. A warp owns some of the query heads, a lane two keys of the
// tile for the scores and head_dim / 32 channels for the sums. A second kernel merges the splits. The floor
// is the bytes of keys and values.
#include <algorithm>

#include "base/integers.h"
#include "ops/attention/attention_decode_cuda.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"

namespace nemoforge::ops {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kTileKeys = 32;
constexpr int kSplitKeys = 64;
constexpr int kMaxSplits = 256;  // with two key heads, four blocks a multiprocessor of an H100
constexpr int kKeysPerWarp = kTileKeys / kWarps;  // to copy
constexpr int kMaxHeadDim = 128;
constexpr int kMaxPerLane = kMaxHeadDim / 32;
// Partial sums of more than this go to the general kernel: many sequences beside a very long one would
// otherwise ask for gigabytes in the middle of a step (half of what the engine keeps free for activations).
constexpr int64_t kMaxPartialBytes = int64_t{512} << 20;
constexpr int kMaxHeadsPerKvHead = 4 * kWarps;

struct DecodeShape {
  int num_heads;
  int num_kv_heads;
  int head_dim;
  int block_size;
  int num_splits;
  int64_t block_table_stride;
  const int32_t* context_lens;
  const int32_t* block_tables;
  float scale;
};

// A function of the sequence's own length: its bits do not depend on the batch.
__device__ int keys_of_split(int num_keys) {
  constexpr int kKeys = kSplitKeys * kMaxSplits;
  return kSplitKeys * ((num_keys + kKeys - 1) / kKeys);
}

__device__ float warp_max(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  return value;
}

// partial [rows, num_heads, num_splits, head_dim + 2]: the weighted sums of values, then the maximum and the
// sum of the weights. Decode rows are row i of sequence i.
template <int kHeadsPerWarp, typename QT, typename CacheT>
__global__ void __launch_bounds__(kThreads)
    attend_split(DecodeShape shape, const QT* q, int64_t q_stride, const CacheT* k_cache,
                 const CacheT* v_cache, float* partial) {
  await_previous_kernel();
  extern __shared__ float shared[];
  const int split = static_cast<int>(blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.z);
  const int num_keys = shape.context_lens[row] + 1;
  const int split_keys = keys_of_split(num_keys);
  const int begin = split * split_keys;
  if (begin >= num_keys) return;
  const int end = min(begin + split_keys, num_keys);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int head_dim = shape.head_dim;
  const int padded = head_dim + 1;  // lanes read neighbouring keys: other banks
  const int heads = shape.num_heads / shape.num_kv_heads;
  const int64_t width = static_cast<int64_t>(shape.num_kv_heads) * head_dim;
  float* queries = shared;                    // [heads, head_dim]
  float* keys = queries + heads * head_dim;   // [kTileKeys, padded]
  float* values = keys + kTileKeys * padded;  // [kTileKeys, padded]
  for (int i = static_cast<int>(threadIdx.x); i < heads * head_dim; i += kThreads) {
    queries[i] = to_float(q[row * q_stride + kv_head * heads * head_dim + i]) * shape.scale;
  }

  float maximum[kHeadsPerWarp];
  float sum[kHeadsPerWarp] = {};
  float sums[kHeadsPerWarp][kMaxPerLane] = {};
#pragma unroll
  for (int h = 0; h < kHeadsPerWarp; ++h) maximum[h] = -INFINITY;

  for (int first = begin; first < end; first += kTileKeys) {
    __syncthreads();  // the previous tile has been read
    // A warp copies whole keys: all its loads are under way before the first is stored.
    float k_values[kKeysPerWarp][kMaxPerLane];
    float v_values[kKeysPerWarp][kMaxPerLane];
#pragma unroll
    for (int j = 0; j < kKeysPerWarp; ++j) {
      const int key = min(first + warp + j * kWarps, end - 1);  // those beyond the end get no weight
      const int64_t block = shape.block_tables[row * shape.block_table_stride + key / shape.block_size];
      const int64_t place = (block * shape.block_size + key % shape.block_size) * width + kv_head * head_dim;
#pragma unroll
      for (int i = 0; i < kMaxPerLane; ++i) {
        k_values[j][i] = i * 32 < head_dim ? to_float(k_cache[place + lane + i * 32]) : 0.0f;
        v_values[j][i] = i * 32 < head_dim ? to_float(v_cache[place + lane + i * 32]) : 0.0f;
      }
    }
#pragma unroll
    for (int j = 0; j < kKeysPerWarp; ++j) {
#pragma unroll
      for (int i = 0; i < kMaxPerLane; ++i) {
        if (i * 32 >= head_dim) break;
        keys[(warp + j * kWarps) * padded + lane + i * 32] = k_values[j][i];
        values[(warp + j * kWarps) * padded + lane + i * 32] = v_values[j][i];
      }
    }
    __syncthreads();  // the tile (and the queries) are written
    // The heads of a warp share each read of a key and of a value.
    float scores[kHeadsPerWarp] = {};
#pragma unroll 8
    for (int i = 0; i < head_dim; ++i) {
      const float k_value = keys[lane * padded + i];
#pragma unroll
      for (int h = 0; h < kHeadsPerWarp; ++h) {
        if (warp + h * kWarps < heads) scores[h] += queries[(warp + h * kWarps) * head_dim + i] * k_value;
      }
    }
#pragma unroll
    for (int h = 0; h < kHeadsPerWarp; ++h) {
      const float score = first + lane < end ? scores[h] : -INFINITY;
      const float new_maximum = fmaxf(maximum[h], warp_max(score));
      const float rescale = expf(maximum[h] - new_maximum);
      scores[h] = expf(score - new_maximum);  // from here on the key's weight
      sum[h] = sum[h] * rescale + warp_sum(scores[h]);
      maximum[h] = new_maximum;
#pragma unroll
      for (int i = 0; i < kMaxPerLane; ++i) sums[h][i] *= rescale;
    }
#pragma unroll 4
    for (int j = 0; j < kTileKeys; ++j) {
      float v_value[kMaxPerLane];
#pragma unroll
      for (int i = 0; i < kMaxPerLane; ++i) {
        v_value[i] = i * 32 < head_dim ? values[j * padded + lane + i * 32] : 0.0f;
      }
#pragma unroll
      for (int h = 0; h < kHeadsPerWarp; ++h) {
        const float weight = __shfl_sync(0xffffffffu, scores[h], j);
#pragma unroll
        for (int i = 0; i < kMaxPerLane; ++i) sums[h][i] += weight * v_value[i];
      }
    }
  }
#pragma unroll
  for (int h = 0; h < kHeadsPerWarp; ++h) {
    const int head = warp + h * kWarps;
    if (head >= heads) break;
    float* target =
        partial +
        ((static_cast<int64_t>(row) * shape.num_heads + kv_head * heads + head) * shape.num_splits + split) *
            (head_dim + 2);
#pragma unroll
    for (int i = 0; i < kMaxPerLane; ++i) {
      if (i * 32 < head_dim) target[lane + i * 32] = sums[h][i];
    }
    if (lane == 0) {
      target[head_dim] = maximum[h];
      target[head_dim + 1] = sum[h];
    }
  }
}

// One block of head_dim threads a (head, row).
template <typename OutT>
__global__ void merge_splits(DecodeShape shape, const float* partial, OutT* out, int64_t out_stride) {
  await_previous_kernel();
  const int head = static_cast<int>(blockIdx.x);
  const int row = static_cast<int>(blockIdx.y);
  const int channel = static_cast<int>(threadIdx.x);
  __shared__ float weights[kMaxSplits];
  __shared__ float scratch[32];
  const int num_keys = shape.context_lens[row] + 1;
  const int split_keys = keys_of_split(num_keys);
  const int num_splits = (num_keys + split_keys - 1) / split_keys;
  const int64_t stride = shape.head_dim + 2;
  const float* source =
      partial + (static_cast<int64_t>(row) * shape.num_heads + head) * shape.num_splits * stride;
  float maximum = -INFINITY;
  for (int split = channel; split < num_splits; split += static_cast<int>(blockDim.x)) {
    maximum = fmaxf(maximum, source[split * stride + shape.head_dim]);
  }
  maximum = warp_max(maximum);
  if (channel % 32 == 0) scratch[channel / 32] = maximum;
  __syncthreads();  // every warp's maximum is written
  for (int warp = 0; warp < shape.head_dim / 32; ++warp) maximum = fmaxf(maximum, scratch[warp]);
  float weight_sum = 0;
  for (int split = channel; split < num_splits; split += static_cast<int>(blockDim.x)) {
    weights[split] = expf(source[split * stride + shape.head_dim] - maximum);
    weight_sum += weights[split] * source[split * stride + shape.head_dim + 1];
  }
  weight_sum = block_sum(weight_sum, scratch);  // its barriers also order weights
  float sum = 0;
#pragma unroll 8
  for (int split = 0; split < num_splits; ++split) sum += weights[split] * source[split * stride + channel];
  out[row * out_stride + head * shape.head_dim + channel] = from_float<OutT>(sum / weight_sum);
}

int64_t num_splits(const AttentionArgs& args) {
  return std::min<int64_t>(ceil_div<int64_t>(args.rows->max_context_len, kSplitKeys), kMaxSplits);
}

}  // namespace

bool decode_attention_fits(const AttentionArgs& args) {
  return args.head_dim % 32 == 0 && args.head_dim <= kMaxHeadDim &&
         args.num_heads / args.num_kv_heads <= kMaxHeadsPerKvHead && args.rows->num_decode <= 65535 &&
         args.num_kv_heads <= 65535 && decode_attention_bytes(args) <= kMaxPartialBytes;
}

int64_t decode_attention_bytes(const AttentionArgs& args) {
  return args.rows->num_decode * args.num_heads * num_splits(args) * (args.head_dim + 2) *
         int64_t{sizeof(float)};
}

void attention_decode(const AttentionArgs& args, float* partial, OpStream& stream) {
  const RaggedRows& rows = *args.rows;
  const DecodeShape shape{.num_heads = static_cast<int>(args.num_heads),
                          .num_kv_heads = static_cast<int>(args.num_kv_heads),
                          .head_dim = static_cast<int>(args.head_dim),
                          .block_size = static_cast<int>(args.cache.block_size()),
                          .num_splits = static_cast<int>(num_splits(args)),
                          .block_table_stride = rows.block_tables.row_stride(),
                          .context_lens = rows.context_lens.data<int32_t>(),
                          .block_tables = rows.block_tables.data<int32_t>(),
                          .scale = args.scale};
  const dim3 grid(static_cast<unsigned>(shape.num_splits), static_cast<unsigned>(args.num_kv_heads),
                  static_cast<unsigned>(rows.num_decode));
  const int64_t heads = args.num_heads / args.num_kv_heads;
  // At most 32 * 128 * 4 + 2 * 32 * 129 * 4 = 48.25 KiB: more than a block gets without asking only at 32
  // heads.
  const auto shared_bytes =
      static_cast<int>((heads * args.head_dim + 2 * kTileKeys * (args.head_dim + 1)) * 4);
  dispatch_activation(args.q.dtype(), [&](auto q_tag) {
    dispatch_activation(args.cache.k.dtype(), [&](auto cache_tag) {
      using QT = DeviceType<typename decltype(q_tag)::type>;
      using CacheT = DeviceType<typename decltype(cache_tag)::type>;
      const auto kernel = heads <= kWarps       ? attend_split<1, QT, CacheT>
                          : heads <= 2 * kWarps ? attend_split<2, QT, CacheT>
                                                : attend_split<4, QT, CacheT>;
      CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
      stream.launch(kernel, grid, kThreads, shared_bytes, shape, static_cast<const QT*>(args.q.raw()),
                    args.q.row_stride(), static_cast<const CacheT*>(args.cache.k.raw()),
                    static_cast<const CacheT*>(args.cache.v.raw()), partial);
    });
  });
  CUDA_CHECK(cudaGetLastError());
  dispatch_activation(args.out.dtype(), [&](auto out_tag) {
    using OutT = DeviceType<typename decltype(out_tag)::type>;
    stream.launch(merge_splits<OutT>,
                  dim3(static_cast<unsigned>(args.num_heads), static_cast<unsigned>(rows.num_decode)),
                  static_cast<int>(args.head_dim), 0, shape, partial, static_cast<OutT*>(args.out.raw()),
                  args.out.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
