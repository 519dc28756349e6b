// Split-KV decode attention. A block takes the keys of a split (keys_of_split: some multiple of kSplitKeys)
// of one key head of one sequence, for all the query heads that share it: keys and values are read once. A
// second kernel merges the splits. The floor is the bytes of keys and values.
//
// bf16, up to 16 query heads a key head: tensor cores. A warp takes 16 keys at a time, which it copies to
// shared memory itself, kWarpStages ahead; it waits for no other warp, keeps a softmax of its own keys, and
// the block's warps are merged at the end. The 16 query heads are the rows of the products; the softmax's
// weights are split in two bf16 parts, as in prefill.
// Other types and more heads: fp32 arithmetic on tiles of kTileKeys keys. A warp owns some of the query
// heads, a lane two keys of the tile for the scores and head_dim / 32 channels for the sums.
#include <algorithm>

#include "base/integers.h"
#include "ops/attention/attention_decode_cuda.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/tensor_core.cuh"

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

constexpr int kWarpKeys = 16;
constexpr int kWarpStages = 3;
constexpr int kMmaWarps = 4;
constexpr int kMmaThreads = 32 * kMmaWarps;
constexpr int kMmaHeads = 16;
constexpr float kLog2E = 1.44269504088896340736f;

// What the warps of attend_split_on_tensor_cores share: stages of keys and values, and later their sums.
template <int kHeadDim>
struct WarpShared {
  static constexpr int kTileElements = kWarpKeys * kHeadDim;
  static constexpr int kBytes = kMmaWarps * kWarpStages * 2 * kTileElements * 2;
  static_assert(kMmaWarps * kMmaHeads * (kHeadDim + 2) * 4 <= kBytes);
};

// A warp's softmax over its own keys; a lane has rows (heads) lane / 4 and lane / 4 + 8.
template <int kHeadDim>
struct WarpSoftmax {
  float maximum[2] = {-INFINITY, -INFINITY};  // of scores in powers of 2
  float sum[2] = {};                          // of the lane's own keys
  float out[kHeadDim / 8][4] = {};
};

// Starts the copies of the keys and values of 16 positions from first_key on; zeros from end on.
template <int kHeadDim>
__device__ void copy_keys(const DecodeShape& shape, const __nv_bfloat16* k_cache,
                          const __nv_bfloat16* v_cache, int row, int kv_head, int first_key, int end,
                          int lane, __nv_bfloat16* stage) {
  constexpr int kPieces = kHeadDim / kPieceElements;
  const SharedTile<kHeadDim> keys{stage};
  const SharedTile<kHeadDim> values{stage + WarpShared<kHeadDim>::kTileElements};
  int block = 0;
  int in_block = 0;
  if (first_key + lane % kWarpKeys < end) {
    const int key = first_key + lane % kWarpKeys;
    block = shape.block_tables[row * shape.block_table_stride + key / shape.block_size];
    in_block = key % shape.block_size;
  }
#pragma unroll
  for (int i = 0; i < kWarpKeys * kPieces / 32; ++i) {
    const int key = (lane + i * 32) / kPieces;
    const int piece = (lane + i * 32) % kPieces;
    const int64_t place = static_cast<int64_t>(__shfl_sync(0xffffffffu, block, key)) * shape.block_size +
                          __shfl_sync(0xffffffffu, in_block, key);
    const bool valid = first_key + key < end;
    const int64_t offset = (place * shape.num_kv_heads + kv_head) * kHeadDim + piece * kPieceElements;
    copy_piece(keys.piece(key, piece), k_cache + (valid ? offset : 0), valid, true);
    copy_piece(values.piece(key, piece), v_cache + (valid ? offset : 0), valid, true);
  }
}

// Takes the 16 keys of a stage into the softmax.
template <int kHeadDim>
__device__ void attend_keys(const uint32_t (&queries)[kHeadDim / 16][4], const __nv_bfloat16* stage,
                            int num_keys, float scale_log2, int lane, WarpSoftmax<kHeadDim>& softmax) {
  const SharedTile<kHeadDim> keys{const_cast<__nv_bfloat16*>(stage)};
  const SharedTile<kHeadDim> values{keys.data + WarpShared<kHeadDim>::kTileElements};
  float scores[2][4] = {};
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
    uint32_t k[4];
    load_b(k, keys, 0, step * 16, lane);
    multiply_add(scores[0], queries[step], k[0], k[1]);
    multiply_add(scores[1], queries[step], k[2], k[3]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {  // rows lane / 4 and lane / 4 + 8
    float maximum = softmax.maximum[half];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[j][half * 2 + i];
        score = j * 8 + lane % 4 * 2 + i < num_keys ? score * scale_log2 : -INFINITY;
        maximum = fmaxf(maximum, score);
      }
    }
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
    const float rescale = exp2f(softmax.maximum[half] - maximum);
    softmax.maximum[half] = maximum;
    softmax.sum[half] *= rescale;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[j][half * 2 + i];
        score = exp2f(score - maximum);
        softmax.sum[half] += score;
      }
    }
#pragma unroll
    for (int block = 0; block < kHeadDim / 8; ++block) {
      softmax.out[block][half * 2] *= rescale;
      softmax.out[block][half * 2 + 1] *= rescale;
    }
  }
  const SplitPair parts[4] = {split(scores[0][0], scores[0][1]), split(scores[0][2], scores[0][3]),
                              split(scores[1][0], scores[1][1]), split(scores[1][2], scores[1][3])};
  const uint32_t high[4] = {parts[0].high, parts[1].high, parts[2].high, parts[3].high};
  const uint32_t low[4] = {parts[0].low, parts[1].low, parts[2].low, parts[3].low};
#pragma unroll
  for (int channel = 0; channel < kHeadDim; channel += 16) {
    uint32_t v[4];
    load_b_transposed(v, values, 0, channel, lane);
    multiply_add(softmax.out[channel / 8], low, v[0], v[1]);
    multiply_add(softmax.out[channel / 8], high, v[0], v[1]);
    multiply_add(softmax.out[channel / 8 + 1], low, v[2], v[3]);
    multiply_add(softmax.out[channel / 8 + 1], high, v[2], v[3]);
  }
}

// The queries as the matrix of 16 rows; zeros for heads that there are not.
template <int kHeadDim>
__device__ void load_queries(const __nv_bfloat16* q, int heads, int lane,
                             uint32_t (&queries)[kHeadDim / 16][4]) {
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int head = lane / 4 + i % 2 * 8;
      const int channel = step * 16 + lane % 4 * 2 + i / 2 * 8;
      queries[step][i] =
          head < heads
              ? as_register(__nv_bfloat162(q[head * kHeadDim + channel], q[head * kHeadDim + channel + 1]))
              : 0;
    }
  }
}

// Merges the warps' softmaxes through `shared` and writes the split's partial sums (as attend_split does).
template <int kHeadDim>
__device__ void merge_warps(WarpSoftmax<kHeadDim>& softmax, int heads, int64_t head_stride, float* target,
                            float* shared) {
  constexpr int kRow = kHeadDim + 2;  // sums, then the maximum and the sum of the weights
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncthreads();  // every warp is done with its keys, whose memory the sums take
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float* of_head = shared + (warp * kMmaHeads + lane / 4 + half * 8) * kRow;
    float sum = softmax.sum[half];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
#pragma unroll
    for (int block = 0; block < kHeadDim / 8; ++block) {
      of_head[block * 8 + lane % 4 * 2] = softmax.out[block][half * 2];
      of_head[block * 8 + lane % 4 * 2 + 1] = softmax.out[block][half * 2 + 1];
    }
    if (lane % 4 == 0) {
      of_head[kHeadDim] = softmax.maximum[half];
      of_head[kHeadDim + 1] = sum;
    }
  }
  __syncthreads();  // all warps' sums are written
  for (int head = warp; head < heads; head += kMmaWarps) {
    float maximum = -INFINITY;
    for (int other = 0; other < kMmaWarps; ++other) {
      maximum = fmaxf(maximum, shared[(other * kMmaHeads + head) * kRow + kHeadDim]);
    }
    float factors[kMmaWarps];
    float sum = 0;
#pragma unroll
    for (int other = 0; other < kMmaWarps; ++other) {
      const float* of_head = shared + (other * kMmaHeads + head) * kRow;
      factors[other] = exp2f(of_head[kHeadDim] - maximum);
      sum += factors[other] * of_head[kHeadDim + 1];
    }
    for (int channel = lane; channel < kHeadDim; channel += 32) {
      float value = 0;
#pragma unroll
      for (int other = 0; other < kMmaWarps; ++other) {
        value += factors[other] * shared[(other * kMmaHeads + head) * kRow + channel];
      }
      target[head * head_stride + channel] = value;
    }
    if (lane == 0) {
      target[head * head_stride + kHeadDim] = maximum / kLog2E;
      target[head * head_stride + kHeadDim + 1] = sum;
    }
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kMmaThreads)
    attend_split_on_tensor_cores(DecodeShape shape, const __nv_bfloat16* q, int64_t q_stride,
                                 const __nv_bfloat16* k_cache, const __nv_bfloat16* v_cache, float* partial) {
  extern __shared__ __align__(128) __nv_bfloat16 stages[];
  const int split = static_cast<int>(blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.z);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int heads = shape.num_heads / shape.num_kv_heads;
  await_previous_kernel();
  const int num_keys = shape.context_lens[row] + 1;
  const int split_keys = keys_of_split(num_keys);
  const int begin = split * split_keys;
  if (begin >= num_keys) return;
  const int end = min(begin + split_keys, num_keys);
  __nv_bfloat16* of_warp = stages + warp * kWarpStages * 2 * WarpShared<kHeadDim>::kTileElements;
  const auto stage = [&](int step) {
    return of_warp + step % kWarpStages * 2 * WarpShared<kHeadDim>::kTileElements;
  };
  const auto first_key = [&](int step) { return begin + (step * kMmaWarps + warp) * kWarpKeys; };
  const auto start_copy = [&](int step) {
    if (first_key(step) < end) {
      copy_keys<kHeadDim>(shape, k_cache, v_cache, row, kv_head, first_key(step), end, lane, stage(step));
    }
    commit_copies();
  };
  for (int step = 0; step + 1 < kWarpStages; ++step) start_copy(step);
  uint32_t queries[kHeadDim / 16][4];
  load_queries<kHeadDim>(q + row * q_stride + kv_head * heads * kHeadDim, heads, lane, queries);
  WarpSoftmax<kHeadDim> softmax;
  for (int step = 0; first_key(step) < end; ++step) {
    start_copy(step + kWarpStages - 1);
    wait_for_copies<kWarpStages - 1>();
    __syncwarp();  // all lanes' copies of this step are there
    attend_keys<kHeadDim>(queries, stage(step), end - first_key(step), shape.scale * kLog2E, lane, softmax);
    __syncwarp();  // all lanes are done with the stage before it is copied over
  }
  wait_for_copies<0>();
  const int64_t head_stride = static_cast<int64_t>(shape.num_splits) * (kHeadDim + 2);
  float* target = partial + (static_cast<int64_t>(row) * shape.num_heads + kv_head * heads) * head_stride +
                  split * (kHeadDim + 2);
  merge_warps<kHeadDim>(softmax, heads, head_stride, target, reinterpret_cast<float*>(stages));
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

// Whether the kernel of this head_dim on tensor cores takes the arguments; launches it then.
template <int kHeadDim>
bool attend_on_tensor_cores(const AttentionArgs& args, const DecodeShape& shape, dim3 grid, float* partial,
                            OpStream& stream) {
  const auto is_aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  if (args.head_dim != kHeadDim || args.q.dtype() != DType::kBF16 || args.cache.k.dtype() != DType::kBF16 ||
      args.num_heads / args.num_kv_heads > kMmaHeads || !is_aligned(args.cache.k.raw()) ||
      !is_aligned(args.cache.v.raw())) {
    return false;
  }
  allow_shared_bytes(attend_split_on_tensor_cores<kHeadDim>, WarpShared<kHeadDim>::kBytes);
  stream.launch(attend_split_on_tensor_cores<kHeadDim>, grid, kMmaThreads, WarpShared<kHeadDim>::kBytes,
                shape, static_cast<const __nv_bfloat16*>(args.q.raw()), args.q.row_stride(),
                static_cast<const __nv_bfloat16*>(args.cache.k.raw()),
                static_cast<const __nv_bfloat16*>(args.cache.v.raw()), partial);
  return true;
}

void attend_in_fp32(const AttentionArgs& args, const DecodeShape& shape, dim3 grid, float* partial,
                    OpStream& stream) {
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
      allow_shared_bytes(kernel, shared_bytes);
      stream.launch(kernel, grid, kThreads, shared_bytes, shape, static_cast<const QT*>(args.q.raw()),
                    args.q.row_stride(), static_cast<const CacheT*>(args.cache.k.raw()),
                    static_cast<const CacheT*>(args.cache.v.raw()), partial);
    });
  });
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
  const bool done = attend_on_tensor_cores<128>(args, shape, grid, partial, stream) ||
                    attend_on_tensor_cores<64>(args, shape, grid, partial, stream) ||
                    attend_on_tensor_cores<32>(args, shape, grid, partial, stream);
  if (!done) attend_in_fp32(args, shape, grid, partial, stream);
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
