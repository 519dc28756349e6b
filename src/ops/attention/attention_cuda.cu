// Grouped-query attention over the paged cache with an online softmax. A warp owns one (row, query head):
// lanes take one key each for the scores, and head_dim / 32 channels each for the sums. head_dim <= 32 *
// kMaxPerLane (checked before launch).
#include "base/integers.h"
#include "ops/attention/attention.h"
#include "ops/attention/attention_decode_cuda.h"
#include "ops/attention/attention_prefill_cuda.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"

namespace nemoforge::ops {
namespace {

constexpr int kAppendThreads = 128;
constexpr int kWarpsPerBlock = 4;
constexpr int kMaxPerLane = kCudaShapeLimits.head_dim / 32;
constexpr int kKeyTile = 32;  // keys a step of the online softmax takes; tiles begin at multiples of it

// What the kernels need of RaggedRows.
struct PagedRows {
  const int32_t* cu_seqlens;
  const int32_t* context_lens;
  const int32_t* block_tables;
  int64_t block_table_stride;
  int num_sequences;
  int block_size;
};

// The sequence that `row` belongs to: the last with cu_seqlens <= row.
__device__ int sequence_of(const PagedRows& rows, int row) {
  int low = 0;
  int high = rows.num_sequences;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (rows.cu_seqlens[middle] <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Index of a sequence's position among all places of the cache.
__device__ int64_t place_of(const PagedRows& rows, int sequence, int position) {
  const int64_t block = rows.block_tables[sequence * rows.block_table_stride + position / rows.block_size];
  return block * rows.block_size + position % rows.block_size;
}

template <typename InT, typename CacheT>
__global__ void append_rows(PagedRows rows, const InT* k, int64_t k_stride, const InT* v, int64_t v_stride,
                            int width, CacheT* k_cache, CacheT* v_cache) {
  await_previous_kernel();
  const int row = static_cast<int>(blockIdx.x);
  const int sequence = sequence_of(rows, row);
  const int position = rows.context_lens[sequence] + row - rows.cu_seqlens[sequence];
  const int64_t place = place_of(rows, sequence, position);
  for (int column = static_cast<int>(threadIdx.x); column < width; column += kAppendThreads) {
    k_cache[place * width + column] = from_float<CacheT>(to_float(k[row * k_stride + column]));
    v_cache[place * width + column] = from_float<CacheT>(to_float(v[row * v_stride + column]));
  }
}

struct AttentionShape {
  int first_row;  // rows before it are others' work
  int num_rows;   // the last one's index + 1
  int num_heads;
  int num_kv_heads;
  int head_dim;
  float scale;
};

__device__ float warp_max(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  return value;
}

template <typename QT, typename CacheT, typename OutT>
__global__ void attend_warp_per_head(PagedRows rows, AttentionShape shape, const QT* q, int64_t q_stride,
                                     const CacheT* k_cache, const CacheT* v_cache, OutT* out,
                                     int64_t out_stride) {
  extern __shared__ float shared_q[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t task = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp;
  const int row = shape.first_row + static_cast<int>(task / shape.num_heads);
  if (row >= shape.num_rows) return;
  const int head = static_cast<int>(task % shape.num_heads);
  const int kv_head = head / (shape.num_heads / shape.num_kv_heads);
  const int sequence = sequence_of(rows, row);
  const int num_keys = rows.context_lens[sequence] + row - rows.cu_seqlens[sequence] + 1;
  const int64_t width = static_cast<int64_t>(shape.num_kv_heads) * shape.head_dim;

  float* query = shared_q + warp * shape.head_dim;
  for (int i = lane; i < shape.head_dim; i += 32) {
    query[i] = to_float(q[row * q_stride + head * shape.head_dim + i]) * shape.scale;
  }
  __syncwarp();  // the query is written before any lane reads it

  float maximum = -INFINITY;
  float sum = 0;
  float sums[kMaxPerLane] = {};
  for (int first = 0; first < num_keys; first += kKeyTile) {
    const int key = first + lane;
    float score = -INFINITY;
    int64_t offset = 0;
    if (key < num_keys) {
      offset = place_of(rows, sequence, key) * width + kv_head * shape.head_dim;
      score = 0;
      for (int i = 0; i < shape.head_dim; ++i) score += query[i] * to_float(k_cache[offset + i]);
    }
    const float new_maximum = fmaxf(maximum, warp_max(score));
    const float rescale = expf(maximum - new_maximum);
    const float weight = key < num_keys ? expf(score - new_maximum) : 0.0f;
    sum = sum * rescale + warp_sum(weight);
    maximum = new_maximum;
#pragma unroll
    for (int i = 0; i < kMaxPerLane; ++i) sums[i] *= rescale;
    const int tile = min(kKeyTile, num_keys - first);
    for (int j = 0; j < tile; ++j) {
      const float key_weight = __shfl_sync(0xffffffffu, weight, j);
      const int64_t key_offset = __shfl_sync(0xffffffffu, offset, j);
#pragma unroll
      for (int i = 0; i < kMaxPerLane; ++i) {
        const int channel = lane + i * 32;
        if (channel < shape.head_dim) sums[i] += key_weight * to_float(v_cache[key_offset + channel]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kMaxPerLane; ++i) {
    const int channel = lane + i * 32;
    if (channel < shape.head_dim) {
      out[row * out_stride + head * shape.head_dim + channel] = from_float<OutT>(sums[i] / sum);
    }
  }
}

PagedRows paged_rows(const RaggedRows& rows, int64_t block_size) {
  return {rows.cu_seqlens.data<int32_t>(),      rows.context_lens.data<int32_t>(),
          rows.block_tables.data<int32_t>(),    rows.block_tables.row_stride(),
          static_cast<int>(rows.num_sequences), static_cast<int>(block_size)};
}

}  // namespace

void CudaBackend::kv_cache_append(const KvCacheAppendArgs& args) {
  check(args);
  if (args.rows->num_tokens == 0) return;
  dispatch_activation(args.k.dtype(), [&](auto in_tag) {
    dispatch_activation(args.cache.k.dtype(), [&](auto cache_tag) {
      using InT = DeviceType<typename decltype(in_tag)::type>;
      using CacheT = DeviceType<typename decltype(cache_tag)::type>;
      stream_.launch(append_rows<InT, CacheT>, static_cast<unsigned>(args.rows->num_tokens), kAppendThreads,
                     0, paged_rows(*args.rows, args.cache.block_size()),
                     static_cast<const InT*>(args.k.raw()), args.k.row_stride(),
                     static_cast<const InT*>(args.v.raw()), args.v.row_stride(),
                     static_cast<int>(args.k.size(1)), static_cast<CacheT*>(args.cache.k.raw()),
                     static_cast<CacheT*>(args.cache.v.raw()));
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

void CudaBackend::attention(const AttentionArgs& args) {
  check(args);
  if (args.rows->num_tokens == 0) return;
  NF_CHECK(args.head_dim <= 32 * kMaxPerLane) << args.head_dim;
  // What neither the decode nor the prefill kernels take is left for the general one.
  int64_t first_row = 0;
  if (args.rows->num_decode > 0 && decode_attention_fits(args)) {
    auto* partial =
        static_cast<float*>(scratch(ScratchPurpose::kAttentionPartials, decode_attention_bytes(args)));
    attention_decode(args, partial, stream_);
    first_row = args.rows->num_decode;
  }
  const int64_t end_row = attention_prefill(args, stream_) ? args.rows->num_decode : args.rows->num_tokens;
  if (first_row == end_row) return;
  const AttentionShape shape{static_cast<int>(first_row),      static_cast<int>(end_row),
                             static_cast<int>(args.num_heads), static_cast<int>(args.num_kv_heads),
                             static_cast<int>(args.head_dim),  args.scale};
  const int64_t num_tasks = (end_row - first_row) * args.num_heads;
  const auto grid = static_cast<unsigned>(ceil_div<int64_t>(num_tasks, kWarpsPerBlock));
  const size_t shared_bytes = static_cast<size_t>(kWarpsPerBlock * args.head_dim) * sizeof(float);
  dispatch_activation(args.q.dtype(), [&](auto q_tag) {
    dispatch_activation(args.cache.k.dtype(), [&](auto cache_tag) {
      dispatch_activation(args.out.dtype(), [&](auto out_tag) {
        using QT = DeviceType<typename decltype(q_tag)::type>;
        using CacheT = DeviceType<typename decltype(cache_tag)::type>;
        using OutT = DeviceType<typename decltype(out_tag)::type>;
        attend_warp_per_head<<<grid, kWarpsPerBlock * 32, shared_bytes, stream_>>>(
            paged_rows(*args.rows, args.cache.block_size()), shape, static_cast<const QT*>(args.q.raw()),
            args.q.row_stride(), static_cast<const CacheT*>(args.cache.k.raw()),
            static_cast<const CacheT*>(args.cache.v.raw()), static_cast<OutT*>(args.out.raw()),
            args.out.row_stride());
      });
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
