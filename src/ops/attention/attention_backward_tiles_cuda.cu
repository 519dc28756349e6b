// Flash attention's backward on tensor cores (Dao, "FlashAttention-2", 2023, algorithm 2), without atomics:
// each gradient has one owner, and the same calls give the same bits. The weights are computed three times
// (once for the sums, once for each owner): nine products of a visible (query, key) pair instead of seven.
//
// 1. query_gradients: a block owns kTileQueries (row, head) pairs of one KV head, rows major, so that each
//    tile of keys is read once for all the heads, and visits the keys of their documents twice: first for the
//    softmax's normalisation and delta = sum_j p d_p, which it leaves for the second kernel; then for d_q.
// 2. key_gradients: a block owns kTileKeys keys of one KV head and a share of its query heads, and visits the
//    rows that see the keys. The shares of d_k and d_v are f32 in scratch memory.
// 3. add_key_gradients adds the shares in order.
//
// In both, weights stay in registers from the product that makes them to the product that takes them. The
// next tile is copied while one is computed (128 KiB of shared memory for heads of 128). Rows stand in the
// batch one after the other, whatever documents they belong to: a key is seen from its document's rows alone.
#include <climits>

#include "base/integers.h"
#include "ops/attention/attention_backward_tiles_cuda.h"
#include "ops/cuda_check.h"
#include "ops/document_rows.cuh"
#include "ops/tile_products.cuh"

namespace nemoforge::ops {
namespace {

using Bf = __nv_bfloat16;

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kTileQueries = kWarps * 16;  // of a block of query_gradients
constexpr int kTileKeys = kWarps * 16;     // of a block of key_gradients
constexpr int kStep = 64;                  // keys, or rows, of a tile that a block visits
constexpr float kLog2E = 1.44269504088896340736f;

struct GradientProblem {
  Bf16Rows q, k, v, d_out;
  DocumentRows documents;
  int num_heads, heads_per_kv_head, heads_per_split;
  float scale, scale_log2;  // scale log2(e): weights are powers of 2
  int* begins;              // [num_rows]: first row of each row's document
  float* log_sums;          // [num_heads, num_rows]: log2 of the sum of the weights
  float* deltas;            // [num_heads, num_rows]
  float* key_shares;        // [splits, 2 (d_k, d_v), num_rows, num_kv_heads * head_dim]
};

// 2^x to 2 ulp; 0 for -infinity.
__device__ inline float power_of_2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

constexpr int kBeginThreads = 128;

__global__ void find_begins(DocumentRows documents, int* begins) {
  await_previous_kernel();
  const int row = static_cast<int>(blockIdx.x) * kBeginThreads + static_cast<int>(threadIdx.x);
  if (row < documents.num_rows) begins[row] = document_of(documents, row).begin;
}

// Shared memory of both large kernels: two matrices of the block's own rows, and two of the visited ones in
// two buffers.
template <int kHeadDim>
struct SharedLayout {
  using Tile = SharedTile<kHeadDim>;
  static constexpr int kOwnElements = kWarps * 16 * kHeadDim;
  static constexpr int kVisitedElements = kStep * kHeadDim;
  static constexpr int kBytes = (2 * kOwnElements + 4 * kVisitedElements) * static_cast<int>(sizeof(Bf));
  __device__ static Tile own(Bf* shared, int matrix) { return {shared + matrix * kOwnElements}; }
  __device__ static Tile visited(Bf* shared, int buffer, int matrix) {
    return {shared + 2 * kOwnElements + (2 * buffer + matrix) * kVisitedElements};
  }
};

using Scores = float[kStep / 8][4];
using Weights = PackedSums<kStep / 8>;

// The block's pairs of query_gradients; pair p is head p % heads_per_kv_head of the KV head, at row
// p / heads_per_kv_head.
struct QueryPart {
  int kv_head, first_pair, heads_per_kv_head, num_rows;
  __device__ int row(int pair) const { return pair / heads_per_kv_head; }
  __device__ int head(int pair) const { return kv_head * heads_per_kv_head + pair % heads_per_kv_head; }
  __device__ bool has(int pair) const { return row(pair) < num_rows; }
};

template <int kHeadDim>
__device__ void load_pairs(const SharedTile<kHeadDim>& tile, const Bf16Rows& rows, const QueryPart& part) {
  constexpr int kPieces = kHeadDim / kPieceElements;
  for (int i = static_cast<int>(threadIdx.x); i < kTileQueries * kPieces; i += kThreads) {
    const int pair = part.first_pair + i / kPieces;
    const bool valid = part.has(pair);
    const Bf* source = rows.data;
    if (valid) {
      source += part.row(pair) * rows.stride + part.head(pair) * kHeadDim + i % kPieces * kPieceElements;
    }
    copy_piece(tile.piece(i / kPieces, i % kPieces), source, valid, rows.aligned);
  }
}

// What a lane knows of its two pairs: the keys that they see, and the softmax.
struct LanePairs {
  int pair[2];
  int first_key[2];
  int last_key[2];
  float maximum[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};       // of weights over 2^maximum, of the lane's own columns
  float weighted[2] = {};  // of weights times d_p
  float log_sum[2];
  float delta[2];
  __device__ bool sees(int half, int key) const { return key >= first_key[half] && key <= last_key[half]; }
};

__device__ inline void update_sums(const Scores& scores, const Scores& d_weights, float scale_log2,
                                   int first_key, int lane, LanePairs& pairs) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float values[kStep / 8][2];
    float maximum = pairs.maximum[half];
#pragma unroll
    for (int block = 0; block < kStep / 8; ++block) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int key = first_key + block * 8 + lane % 4 * 2 + i;
        values[block][i] = pairs.sees(half, key) ? scores[block][2 * half + i] * scale_log2 : -INFINITY;
        maximum = fmaxf(maximum, values[block][i]);
      }
    }
    // The four lanes of a row have its columns among them.
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
    // Until the row's document is reached all of it is -infinity.
    const float finite_maximum = maximum == -INFINITY ? 0.0f : maximum;
    const float rescale = power_of_2(pairs.maximum[half] - finite_maximum);
    pairs.maximum[half] = maximum;
    float sum = 0;
    float weighted = 0;
#pragma unroll
    for (int block = 0; block < kStep / 8; ++block) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float weight = power_of_2(values[block][i] - finite_maximum);
        sum += weight;
        weighted += weight * d_weights[block][2 * half + i];
      }
    }
    pairs.sum[half] = pairs.sum[half] * rescale + sum;
    pairs.weighted[half] = pairs.weighted[half] * rescale + weighted;
  }
}

// Leaves the softmax's sums for the other kernel.
__device__ inline void complete_sums(const GradientProblem& problem, const QueryPart& part, int lane,
                                     LanePairs& pairs) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = sum_over_columns(pairs.sum[half]);
    const float weighted = sum_over_columns(pairs.weighted[half]);
    pairs.log_sum[half] = pairs.maximum[half] + log2f(sum);
    pairs.delta[half] = weighted / sum;
    const int pair = pairs.pair[half];
    if (lane % 4 != 0 || !part.has(pair)) continue;
    const int64_t place = static_cast<int64_t>(part.head(pair)) * part.num_rows + part.row(pair);
    problem.log_sums[place] = pairs.log_sum[half];
    problem.deltas[place] = pairs.delta[half];
  }
}

// The gradients of the scaled scores.
__device__ inline void score_gradients(const Scores& scores, const Scores& d_weights, float scale_log2,
                                       int first_key, int lane, const LanePairs& pairs, Weights& d_scores) {
#pragma unroll
  for (int block = 0; block < kStep / 8; ++block) {
    const int key = first_key + block * 8 + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float values[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float weight = power_of_2(scores[block][2 * half + i] * scale_log2 - pairs.log_sum[half]);
        values[i] =
            pairs.sees(half, key + i) ? weight * (d_weights[block][2 * half + i] - pairs.delta[half]) : 0.0f;
      }
      d_scores[block][half] = pack(values[0], values[1]);
    }
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, 1) query_gradients(GradientProblem problem, Bf16Gradient d_q) {
  extern __shared__ __align__(128) unsigned char shared[];
  using Layout = SharedLayout<kHeadDim>;
  await_previous_kernel();
  auto* elements = reinterpret_cast<Bf*>(shared);
  int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_query = static_cast<int>(threadIdx.x) / 32 * 16;
  const int num_rows = problem.documents.num_rows;
  // The last rows see most keys: they start first.
  const QueryPart part{static_cast<int>(blockIdx.y),
                       static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTileQueries, problem.heads_per_kv_head,
                       num_rows};
  LanePairs pairs;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pair = part.first_pair + first_query + lane / 4 + half * 8;
    pairs.pair[half] = pair;
    pairs.first_key[half] = part.has(pair) ? problem.begins[part.row(pair)] : INT_MAX;
    pairs.last_key[half] = part.row(pair);
  }
  const int begin = problem.begins[part.row(part.first_pair)];
  const int end = min(part.row(part.first_pair + kTileQueries - 1) + 1, num_rows);
  const int num_tiles = (end - begin + kStep - 1) / kStep;
  const auto load = [&](int visit) {
    const int first_key = begin + visit % num_tiles * kStep;
    load_rows<kStep, kThreads>(Layout::visited(elements, visit % 2, 0), problem.k, first_key, end,
                               part.kv_head * kHeadDim);
    load_rows<kStep, kThreads>(Layout::visited(elements, visit % 2, 1), problem.v, first_key, end,
                               part.kv_head * kHeadDim);
    commit_copies();
  };

  const auto queries = Layout::own(elements, 0);
  const auto d_outs = Layout::own(elements, 1);
  load_pairs(queries, problem.q, part);
  load_pairs(d_outs, problem.d_out, part);
  load(0);
  float sums[kHeadDim / 8][4] = {};
  for (int visit = 0; visit < 2 * num_tiles; ++visit) {
    hide_value(lane);
    wait_for_copies<0>();
    __syncthreads();  // the tile is there for all, and nobody reads the other buffer any more
    if (visit + 1 < 2 * num_tiles) load(visit + 1);
    const auto keys = Layout::visited(elements, visit % 2, 0);
    const auto values = Layout::visited(elements, visit % 2, 1);
    const int first_key = begin + visit % num_tiles * kStep;
    Scores scores = {};
    Scores d_weights = {};
    add_product_of_rows(scores, queries, first_query, keys, 0, lane);
    add_product_of_rows(d_weights, d_outs, first_query, values, 0, lane);
    if (visit < num_tiles) {
      update_sums(scores, d_weights, problem.scale_log2, first_key, lane, pairs);
      if (visit + 1 == num_tiles) complete_sums(problem, part, lane, pairs);
    } else {
      Weights d_scores;
      score_gradients(scores, d_weights, problem.scale_log2, first_key, lane, pairs, d_scores);
      add_packed_product(sums, d_scores, keys, lane);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pair = pairs.pair[half];
    if (!part.has(pair)) continue;
    Bf* target = &d_q.rows.at(part.row(pair), part.head(pair) * kHeadDim + lane % 4 * 2);
#pragma unroll
    for (int block = 0; block < kHeadDim / 8; ++block) {
      add_pair(target + block * 8, problem.scale * sums[block][2 * half],
               problem.scale * sums[block][2 * half + 1], d_q.paired);
    }
  }
}

// What key_gradients needs to know of the rows of a tile.
struct VisitedRows {
  int begin[kStep];  // of the row's document; beyond all keys where there is no such row
  float log_sum[kStep];
  float delta[kStep];
};

// One of them, on its way to shared memory.
struct VisitedRow {
  int begin;
  float log_sum;
  float delta;
};

__device__ inline VisitedRow read_visited_row(const GradientProblem& problem, int head, int row) {
  const int num_rows = problem.documents.num_rows;
  if (row >= num_rows) return {INT_MAX, 0.0f, 0.0f};
  const int64_t place = static_cast<int64_t>(head) * num_rows + row;
  return {problem.begins[row], problem.log_sums[place], problem.deltas[place]};
}

__device__ inline void share_visited_row(const VisitedRow& row, VisitedRows& visited) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= kStep) return;
  visited.begin[i] = row.begin;
  visited.log_sum[i] = row.log_sum;
  visited.delta[i] = row.delta;
}

// Weights of scores [keys x rows].
__device__ inline void weights_of_keys(const Scores& scores, const VisitedRows& visited, float scale_log2,
                                       int first_key, int first_row, int lane, Weights& weights) {
#pragma unroll
  for (int block = 0; block < kStep / 8; ++block) {
    const int place = block * 8 + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = first_key + lane / 4 + half * 8;
      float values[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const bool seen = key >= visited.begin[place + i] && key <= first_row + place + i;
        const float power = scores[block][2 * half + i] * scale_log2 - visited.log_sum[place + i];
        values[i] = seen ? power_of_2(power) : 0.0f;
      }
      weights[block][half] = pack(values[0], values[1]);
    }
  }
}

// From the weights to the gradients of the scaled scores, in place.
__device__ inline void score_gradients_of_keys(const Scores& d_weights, const VisitedRows& visited, int lane,
                                               Weights& weights) {
#pragma unroll
  for (int block = 0; block < kStep / 8; ++block) {
    const int place = block * 8 + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 weight = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162*>(&weights[block][half]));
      weights[block][half] = pack(weight.x * (d_weights[block][2 * half] - visited.delta[place]),
                                  weight.y * (d_weights[block][2 * half + 1] - visited.delta[place + 1]));
    }
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, 1) key_gradients(GradientProblem problem) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ VisitedRows visited_rows[2];
  using Layout = SharedLayout<kHeadDim>;
  await_previous_kernel();
  auto* elements = reinterpret_cast<Bf*>(shared);
  int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_key = static_cast<int>(threadIdx.x) / 32 * 16;
  const int num_rows = problem.documents.num_rows;
  const int num_splits = problem.heads_per_kv_head / problem.heads_per_split;
  const int num_kv_heads = problem.num_heads / problem.heads_per_kv_head;
  const int split = static_cast<int>(blockIdx.x) % num_splits;
  const int kv_head = static_cast<int>(blockIdx.x) / num_splits;
  const int first_head = kv_head * problem.heads_per_kv_head + split * problem.heads_per_split;
  // The first keys of a long document are seen from most rows: they start first.
  const int first_key = static_cast<int>(blockIdx.y) * kTileKeys;
  const int last_key = min(first_key + kTileKeys, num_rows) - 1;
  const int end = document_of(problem.documents, last_key).end;
  const int num_tiles = (end - first_key + kStep - 1) / kStep;
  const int num_visits = num_tiles * problem.heads_per_split;
  const auto load = [&](int visit) {
    const int head = first_head + visit / num_tiles;
    const int first_row = first_key + visit % num_tiles * kStep;
    load_rows<kStep, kThreads>(Layout::visited(elements, visit % 2, 0), problem.q, first_row, num_rows,
                               head * kHeadDim);
    load_rows<kStep, kThreads>(Layout::visited(elements, visit % 2, 1), problem.d_out, first_row, num_rows,
                               head * kHeadDim);
    commit_copies();
    // Threads beyond the tile read a row in vain.
    return read_visited_row(problem, head, first_row + static_cast<int>(threadIdx.x));
  };

  const auto keys = Layout::own(elements, 0);
  const auto values = Layout::own(elements, 1);
  load_rows<kTileKeys, kThreads>(keys, problem.k, first_key, num_rows, kv_head * kHeadDim);
  load_rows<kTileKeys, kThreads>(values, problem.v, first_key, num_rows, kv_head * kHeadDim);
  share_visited_row(load(0), visited_rows[0]);
  float d_k[kHeadDim / 8][4] = {};
  float d_v[kHeadDim / 8][4] = {};
  for (int visit = 0; visit < num_visits; ++visit) {
    hide_value(lane);
    wait_for_copies<0>();
    __syncthreads();  // the tile is there for all, and nobody reads the other buffer any more
    VisitedRow next{};
    if (visit + 1 < num_visits) next = load(visit + 1);
    const int first_row = first_key + visit % num_tiles * kStep;
    // Not where all the warp's keys come after all the rows.
    if (first_key + own_key < first_row + kStep) {
      const auto queries = Layout::visited(elements, visit % 2, 0);
      const auto d_outs = Layout::visited(elements, visit % 2, 1);
      const VisitedRows& rows = visited_rows[visit % 2];
      Weights weights;
      {
        Scores scores = {};
        add_product_of_rows(scores, keys, own_key, queries, 0, lane);
        weights_of_keys(scores, rows, problem.scale_log2, first_key + own_key, first_row, lane, weights);
      }
      add_packed_product(d_v, weights, d_outs, lane);
      Scores d_weights = {};
      add_product_of_rows(d_weights, values, own_key, d_outs, 0, lane);
      score_gradients_of_keys(d_weights, rows, lane, weights);
      add_packed_product(d_k, weights, queries, lane);
    }
    share_visited_row(next, visited_rows[(visit + 1) % 2]);
  }

  const int64_t kv_size = static_cast<int64_t>(num_kv_heads) * kHeadDim;
  float* d_k_share = problem.key_shares + 2 * split * num_rows * kv_size;
  float* d_v_share = d_k_share + num_rows * kv_size;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int key = first_key + own_key + lane / 4 + half * 8;
    if (key >= num_rows) continue;
    const int64_t place = key * kv_size + kv_head * kHeadDim + lane % 4 * 2;
#pragma unroll
    for (int block = 0; block < kHeadDim / 8; ++block) {
      store_pair(d_k_share + place + block * 8, problem.scale * d_k[block][2 * half],
                 problem.scale * d_k[block][2 * half + 1], true);
      store_pair(d_v_share + place + block * 8, d_v[block][2 * half], d_v[block][2 * half + 1], true);
    }
  }
}

constexpr int kAddThreads = 128;

__global__ void add_key_gradients(const float* shares, int num_splits, int num_rows, int kv_size,
                                  DeviceRows<Bf> d_k, DeviceRows<Bf> d_v) {
  await_previous_kernel();
  const int64_t numel = static_cast<int64_t>(num_rows) * kv_size;
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kAddThreads + threadIdx.x;
  if (place >= numel) return;
  float d_key = 0;
  float d_value = 0;
  for (int split = 0; split < num_splits; ++split) {
    d_key += shares[2 * split * numel + place];
    d_value += shares[(2 * split + 1) * numel + place];
  }
  add_to(d_k.at(place / kv_size, place % kv_size), d_key);
  add_to(d_v.at(place / kv_size, place % kv_size), d_value);
}

// Into how many shares the query heads of a KV head are split, so that key_gradients' blocks, of which an
// H100 runs 132 at a time, fill it twice and the longest ones do not run alone at the end.
int64_t choose_num_splits(int64_t num_blocks, int64_t heads_per_kv_head) {
  constexpr int64_t kWantedBlocks = 256;
  int64_t splits = 1;
  while (splits < heads_per_kv_head &&
         (num_blocks * splits < kWantedBlocks || heads_per_kv_head % splits != 0)) {
    ++splits;
  }
  return splits;
}

template <int kHeadDim>
void launch(const GradientProblem& problem, const AttentionBackwardArgs& args, int64_t num_splits,
            OpStream& stream) {
  constexpr int kSharedBytes = SharedLayout<kHeadDim>::kBytes;
  CUDA_CHECK(cudaFuncSetAttribute(query_gradients<kHeadDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
  CUDA_CHECK(cudaFuncSetAttribute(key_gradients<kHeadDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
  const int64_t num_rows = args.rows->num_tokens;
  const auto kv_heads = static_cast<unsigned>(args.num_kv_heads);
  const auto blocks = [](int64_t count, int64_t of_a_block) {
    return static_cast<unsigned>(ceil_div(count, of_a_block));
  };
  stream.launch(find_begins, dim3(blocks(num_rows, kBeginThreads)), kBeginThreads, 0, problem.documents,
                problem.begins);
  stream.launch(query_gradients<kHeadDim>,
                dim3(blocks(num_rows * problem.heads_per_kv_head, kTileQueries), kv_heads), kThreads,
                kSharedBytes, problem, bf16_gradient(args.d_q));
  stream.launch(key_gradients<kHeadDim>,
                dim3(kv_heads * static_cast<unsigned>(num_splits), blocks(num_rows, kTileKeys)), kThreads,
                kSharedBytes, problem);
  const int64_t kv_size = args.num_kv_heads * kHeadDim;
  stream.launch(add_key_gradients, dim3(blocks(num_rows * kv_size, kAddThreads)), kAddThreads, 0,
                static_cast<const float*>(problem.key_shares), static_cast<int>(num_splits),
                static_cast<int>(num_rows), static_cast<int>(kv_size), device_rows<Bf>(args.d_k),
                device_rows<Bf>(args.d_v));
}

}  // namespace

bool attention_backward_has_tiles(const AttentionBackwardArgs& args) {
  return args.q.dtype() == DType::kBF16 &&
         (args.head_dim == 32 || args.head_dim == 64 || args.head_dim == 128) &&
         args.num_heads * args.rows->num_tokens <= INT_MAX && args.num_kv_heads <= 65535 &&
         args.rows->num_tokens <= 65535 * kTileKeys;
}

void attention_backward_tiles(const AttentionBackwardArgs& args, CudaTrainingContext& context) {
  const int64_t num_rows = args.rows->num_tokens;
  const int64_t heads_per_kv_head = args.num_heads / args.num_kv_heads;
  const int64_t num_splits =
      choose_num_splits(ceil_div<int64_t>(num_rows, kTileKeys) * args.num_kv_heads, heads_per_kv_head);
  const int64_t kv_numel = num_rows * args.num_kv_heads * args.head_dim;
  // Shares first: they are written in pairs.
  const int64_t share_floats = 2 * num_splits * kv_numel;
  const int64_t row_floats = num_rows * args.num_heads;
  auto* shares = static_cast<float*>(
      context.memory((share_floats + 2 * row_floats + num_rows) * static_cast<int64_t>(sizeof(float))));
  float* log_sums = shares + share_floats;
  float* deltas = log_sums + row_floats;
  const GradientProblem problem{bf16_rows(args.q),
                                bf16_rows(args.k),
                                bf16_rows(args.v),
                                bf16_rows(args.d_out),
                                {args.rows->cu_seqlens.data<int32_t>(),
                                 static_cast<int>(args.rows->num_sequences), static_cast<int>(num_rows)},
                                static_cast<int>(args.num_heads),
                                static_cast<int>(heads_per_kv_head),
                                static_cast<int>(heads_per_kv_head / num_splits),
                                args.scale,
                                args.scale * kLog2E,
                                reinterpret_cast<int*>(deltas + row_floats),
                                log_sums,
                                deltas,
                                shares};
  if (args.head_dim == 32) {
    launch<32>(problem, args, num_splits, context.stream());
  } else if (args.head_dim == 64) {
    launch<64>(problem, args, num_splits, context.stream());
  } else {
    launch<128>(problem, args, num_splits, context.stream());
  }
}

}  // namespace nemoforge::ops
