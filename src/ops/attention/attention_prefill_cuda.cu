// Flash attention over the paged cache on tensor cores (Dao, "FlashAttention-2", 2023).
//
// A block owns kTileQueries consecutive (row, head) pairs of one KV head of one sequence, rows major: with 16
// query heads a KV head, 8 rows. So each tile of keys is read once for all of them, and a short chunk of a
// prompt still fills the tile. A warp has 16 of the pairs. Tiles of kTileKeys keys begin at multiples of
// kTileKeys and are copied a tile ahead, two buffers of keys and of values.
//
// Scores are exact products of bf16 with fp32 sums. The weights exp(score - maximum) are fp32: for the
// product with the values each is split in two bf16 parts (2^-17 relative; bf16 weights alone would miss the
// contract's tolerance), which makes 3/2 of the usual number of products.
// A tile whose keys a row must not see leaves the row's bits as they were: chunked and whole prefill agree.
#include "base/integers.h"
#include "ops/attention/attention_prefill_cuda.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/tensor_core.cuh"

namespace nemoforge::ops {
namespace {

using Bf = __nv_bfloat16;

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kTileQueries = kWarps * 16;
constexpr int kTileKeys = 64;
constexpr float kLog2E = 1.44269504088896340736f;

struct AttentionProblem {
  const Bf* q;
  int64_t q_stride;
  const Bf* k_cache;
  const Bf* v_cache;
  const int32_t* cu_seqlens;
  const int32_t* context_lens;
  const int32_t* block_tables;
  int64_t block_table_stride;
  int block_size, first_sequence, num_kv_heads, heads_per_kv_head;
  float scale_log2;  // scale log2(e): weights are powers of 2
  bool q_aligned;
};

// The block's part: pairs [first_pair, first_pair + kTileQueries) of the sequence's rows x heads.
struct Part {
  int sequence, kv_head, begin, num_rows, context_len, first_pair;
};

template <int kHeadDim>
struct SharedLayout {
  using Tile = SharedTile<kHeadDim>;
  static constexpr int kKeyElements = kTileKeys * kHeadDim;
  static constexpr int kBytes = (kTileQueries * kHeadDim + 4 * kKeyElements) * 2;
  __device__ static Tile queries(Bf* shared) { return {shared}; }
  __device__ static Tile keys(Bf* shared, int buffer) {
    return {shared + kTileQueries * kHeadDim + buffer * 2 * kKeyElements};
  }
  __device__ static Tile values(Bf* shared, int buffer) { return {keys(shared, buffer).data + kKeyElements}; }
};

template <int kHeadDim>
__device__ void load_queries(const AttentionProblem& problem, const Part& part,
                             const SharedTile<kHeadDim>& tile) {
  constexpr int kPieces = kHeadDim / kPieceElements;
  const int num_pairs = part.num_rows * problem.heads_per_kv_head;
  for (int i = static_cast<int>(threadIdx.x); i < kTileQueries * kPieces; i += kThreads) {
    const int pair = part.first_pair + i / kPieces;
    const bool valid = pair < num_pairs;
    const Bf* source = problem.q;
    if (valid) {
      const int64_t row = part.begin + pair / problem.heads_per_kv_head;
      const int head = part.kv_head * problem.heads_per_kv_head + pair % problem.heads_per_kv_head;
      source += row * problem.q_stride + head * kHeadDim + i % kPieces * kPieceElements;
    }
    copy_piece(tile.piece(i / kPieces, i % kPieces), source, valid, problem.q_aligned);
  }
}

// Starts the copy of the keys and values of positions [first_key, first_key + kTileKeys); zeros from num_keys
// on, whose places may not exist.
template <int kHeadDim>
__device__ void load_keys(const AttentionProblem& problem, const Part& part, int first_key, int num_keys,
                          const SharedTile<kHeadDim>& keys, const SharedTile<kHeadDim>& values) {
  constexpr int kPieces = kHeadDim / kPieceElements;
  const int32_t* blocks = problem.block_tables + part.sequence * problem.block_table_stride;
#pragma unroll
  for (int i = 0; i < kTileKeys * kPieces / kThreads; ++i) {
    const int row = static_cast<int>(threadIdx.x) / kPieces + i * (kThreads / kPieces);
    const int piece = static_cast<int>(threadIdx.x) % kPieces;
    const int position = first_key + row;
    const bool valid = position < num_keys;
    int64_t offset = 0;
    if (valid) {
      const int64_t place = static_cast<int64_t>(blocks[position / problem.block_size]) * problem.block_size +
                            position % problem.block_size;
      offset = (place * problem.num_kv_heads + part.kv_head) * kHeadDim + piece * kPieceElements;
    }
    copy_piece(keys.piece(row, piece), problem.k_cache + offset, valid, true);
    copy_piece(values.piece(row, piece), problem.v_cache + offset, valid, true);
  }
}

// What a lane keeps of its two rows (lane / 4 and lane / 4 + 8 of the warp's) between tiles.
template <int kHeadDim>
struct RunningSoftmax {
  float maximum[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};  // of the lane's own columns
  float out[kHeadDim / 8][4] = {};
};

using Scores = float[kTileKeys / 8][4];

// 2^x to 2 ulp; 0 for -infinity.
__device__ float power_of_2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

template <int kHeadDim>
__device__ void compute_scores(const SharedTile<kHeadDim>& queries, const SharedTile<kHeadDim>& keys,
                               int first_query, int lane, Scores& scores) {
#pragma unroll
  for (int channel = 0; channel < kHeadDim; channel += 16) {
    uint32_t q[4];
    load_a(q, queries, first_query, channel, lane);
#pragma unroll
    for (int key = 0; key < kTileKeys; key += 16) {
      uint32_t k[4];
      load_b(k, keys, key, channel, lane);
      multiply_add(scores[key / 8], q, k[0], k[1]);
      multiply_add(scores[key / 8 + 1], q, k[2], k[3]);
    }
  }
}

// Scores to weights, in place; rescales what was summed before. last_keys: the last key each row sees.
template <int kHeadDim>
__device__ void update_softmax(Scores& scores, RunningSoftmax<kHeadDim>& softmax, float scale_log2,
                               int first_key, const int (&last_keys)[2], int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float maximum = softmax.maximum[half];
#pragma unroll
    for (int block = 0; block < kTileKeys / 8; ++block) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[block][2 * half + i];
        const int key = first_key + block * 8 + lane % 4 * 2 + i;
        score = key <= last_keys[half] ? score * scale_log2 : -INFINITY;
        maximum = fmaxf(maximum, score);
      }
    }
    // The four lanes of a row have its columns among them.
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
    const float rescale = power_of_2(softmax.maximum[half] - maximum);  // key 0 is seen: maximum is finite
    softmax.maximum[half] = maximum;
    float sum = 0;
#pragma unroll
    for (int block = 0; block < kTileKeys / 8; ++block) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[block][2 * half + i];
        score = power_of_2(score - maximum);
        sum += score;
      }
    }
    softmax.sum[half] = softmax.sum[half] * rescale + sum;
#pragma unroll
    for (int block = 0; block < kHeadDim / 8; ++block) {
      softmax.out[block][2 * half] *= rescale;
      softmax.out[block][2 * half + 1] *= rescale;
    }
  }
}

template <int kHeadDim>
__device__ void add_values(const Scores& weights, const SharedTile<kHeadDim>& values, int lane,
                           RunningSoftmax<kHeadDim>& softmax) {
#pragma unroll
  for (int key = 0; key < kTileKeys; key += 16) {
    uint32_t high[4];
    uint32_t low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const SplitPair pair =
          split(weights[key / 8 + i / 2][i % 2 * 2], weights[key / 8 + i / 2][i % 2 * 2 + 1]);
      high[i] = pair.high;
      low[i] = pair.low;
    }
#pragma unroll
    for (int channel = 0; channel < kHeadDim; channel += 16) {
      uint32_t v[4];
      load_b_transposed(v, values, key, channel, lane);
      multiply_add(softmax.out[channel / 8], high, v[0], v[1]);
      multiply_add(softmax.out[channel / 8 + 1], high, v[2], v[3]);
      multiply_add(softmax.out[channel / 8], low, v[0], v[1]);
      multiply_add(softmax.out[channel / 8 + 1], low, v[2], v[3]);
    }
  }
}

template <int kHeadDim, typename OutT>
__device__ void store_out(const AttentionProblem& problem, const Part& part, int first_query, int lane,
                          const RunningSoftmax<kHeadDim>& softmax, OutT* out, int64_t out_stride) {
  const bool paired = out_stride % 2 == 0 && reinterpret_cast<uintptr_t>(out) % (2 * sizeof(OutT)) == 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = softmax.sum[half];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const int pair = part.first_pair + first_query + lane / 4 + half * 8;
    if (pair >= part.num_rows * problem.heads_per_kv_head) continue;
    const int64_t row = part.begin + pair / problem.heads_per_kv_head;
    const int head = part.kv_head * problem.heads_per_kv_head + pair % problem.heads_per_kv_head;
    OutT* target = out + row * out_stride + head * kHeadDim + lane % 4 * 2;
#pragma unroll
    for (int block = 0; block < kHeadDim / 8; ++block) {
      store_pair(target + block * 8, softmax.out[block][2 * half] / sum,
                 softmax.out[block][2 * half + 1] / sum, paired);
    }
  }
}

template <int kHeadDim, typename OutT>
__global__ void __launch_bounds__(kThreads, 1)
    attend_query_tiles(AttentionProblem problem, OutT* out, int64_t out_stride) {
  extern __shared__ __align__(128) Bf shared[];
  using Layout = SharedLayout<kHeadDim>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_query = static_cast<int>(threadIdx.x) / 32 * 16;
  Part part;
  part.sequence = problem.first_sequence + static_cast<int>(blockIdx.z);
  part.kv_head = static_cast<int>(blockIdx.y);
  part.begin = problem.cu_seqlens[part.sequence];
  part.num_rows = problem.cu_seqlens[part.sequence + 1] - part.begin;
  part.context_len = problem.context_lens[part.sequence];
  // The last tiles see most keys: they start first.
  part.first_pair = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTileQueries;
  if (part.first_pair >= part.num_rows * problem.heads_per_kv_head) return;
  const auto last_key = [&](int query) {
    return part.context_len + min((part.first_pair + query) / problem.heads_per_kv_head, part.num_rows - 1);
  };
  const int num_keys = last_key(kTileQueries - 1) + 1;
  const int num_tiles = (num_keys + kTileKeys - 1) / kTileKeys;
  const int last_keys[2] = {last_key(first_query + lane / 4), last_key(first_query + lane / 4 + 8)};
  const auto load = [&](int tile) {
    load_keys(problem, part, tile * kTileKeys, num_keys, Layout::keys(shared, tile % 2),
              Layout::values(shared, tile % 2));
    commit_copies();
  };

  RunningSoftmax<kHeadDim> softmax;
  load_queries(problem, part, Layout::queries(shared));
  load(0);
  for (int tile = 0; tile < num_tiles; ++tile) {
    wait_for_copies<0>();
    __syncthreads();  // the tile is there for all, and nobody reads the other buffer any more
    if (tile + 1 < num_tiles) load(tile + 1);
    Scores scores = {};
    compute_scores(Layout::queries(shared), Layout::keys(shared, tile % 2), first_query, lane, scores);
    update_softmax(scores, softmax, problem.scale_log2, tile * kTileKeys, last_keys, lane);
    add_values(scores, Layout::values(shared, tile % 2), lane, softmax);
  }
  store_out(problem, part, first_query, lane, softmax, out, out_stride);
}

template <int kHeadDim>
void launch(const AttentionProblem& problem, const AttentionArgs& args, cudaStream_t stream) {
  constexpr int kSharedBytes = SharedLayout<kHeadDim>::kBytes;
  const int64_t num_pairs = args.rows->max_query_len * problem.heads_per_kv_head;
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(num_pairs, kTileQueries)),
                  static_cast<unsigned>(args.num_kv_heads),
                  static_cast<unsigned>(args.rows->num_sequences - args.rows->num_decode));
  dispatch_activation(args.out.dtype(), [&](auto out_tag) {
    using OutT = DeviceType<typename decltype(out_tag)::type>;
    CUDA_CHECK(cudaFuncSetAttribute(attend_query_tiles<kHeadDim, OutT>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
    attend_query_tiles<kHeadDim, OutT><<<grid, kThreads, kSharedBytes, stream>>>(
        problem, static_cast<OutT*>(args.out.raw()), args.out.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace

bool attention_prefill(const AttentionArgs& args, cudaStream_t stream) {
  const RaggedRows& rows = *args.rows;
  const auto is_aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const bool applies = args.q.dtype() == DType::kBF16 && args.cache.k.dtype() == DType::kBF16 &&
                       (args.head_dim == 32 || args.head_dim == 64 || args.head_dim == 128) &&
                       is_aligned(args.cache.k.raw()) && is_aligned(args.cache.v.raw()) &&
                       args.num_kv_heads <= 65535 && rows.num_sequences - rows.num_decode <= 65535;
  if (!applies) return false;
  if (rows.num_sequences == rows.num_decode || rows.max_query_len == 0) return true;
  const AttentionProblem problem{static_cast<const Bf*>(args.q.raw()),
                                 args.q.row_stride(),
                                 static_cast<const Bf*>(args.cache.k.raw()),
                                 static_cast<const Bf*>(args.cache.v.raw()),
                                 rows.cu_seqlens.data<int32_t>(),
                                 rows.context_lens.data<int32_t>(),
                                 rows.block_tables.data<int32_t>(),
                                 rows.block_tables.row_stride(),
                                 static_cast<int>(args.cache.block_size()),
                                 static_cast<int>(rows.num_decode),
                                 static_cast<int>(args.num_kv_heads),
                                 static_cast<int>(args.num_heads / args.num_kv_heads),
                                 args.scale * kLog2E,
                                 is_aligned(args.q.raw()) && args.q.row_stride() % kPieceElements == 0};
  if (args.head_dim == 32) {
    launch<32>(problem, args, stream);
  } else if (args.head_dim == 64) {
    launch<64>(problem, args, stream);
  } else {
    launch<128>(problem, args, stream);
  }
  return true;
}

}  // namespace nemoforge::ops
