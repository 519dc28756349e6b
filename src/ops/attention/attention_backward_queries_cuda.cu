// d_q, and what the keys' kernel needs of the softmax.
#include <climits>

#include "base/integers.h"
#include "ops/attention/attention_backward_tiles.cuh"
#include "ops/cuda_check.h"

namespace nemoforge::ops {
namespace {

using Bf = __nv_bfloat16;
using Scores = AttentionScores;
using Weights = AttentionWeights;

constexpr int kThreads = kAttentionThreads;
constexpr int kStep = kAttentionStep;
constexpr int kTileQueries = kAttentionOwnRows;

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
__device__ inline void complete_sums(const AttentionGradientProblem& problem, const QueryPart& part, int lane,
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
__global__ void __launch_bounds__(kThreads, 1)
    query_gradients(AttentionGradientProblem problem, Bf16Gradient d_q) {
  extern __shared__ __align__(128) unsigned char shared[];
  using Layout = AttentionTiles<kHeadDim>;
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

template <int kHeadDim>
void launch(const AttentionGradientProblem& problem, const Bf16Gradient& d_q, OpStream& stream) {
  constexpr int kSharedBytes = AttentionTiles<kHeadDim>::kBytes;
  CUDA_CHECK(cudaFuncSetAttribute(query_gradients<kHeadDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
  const int64_t num_pairs = int64_t{problem.documents.num_rows} * problem.heads_per_kv_head;
  stream.launch(query_gradients<kHeadDim>,
                dim3(static_cast<unsigned>(ceil_div<int64_t>(num_pairs, kTileQueries)),
                     static_cast<unsigned>(problem.num_heads / problem.heads_per_kv_head)),
                kThreads, kSharedBytes, problem, d_q);
}

}  // namespace

void launch_query_gradients(const AttentionGradientProblem& problem, int head_dim, const Bf16Gradient& d_q,
                            OpStream& stream) {
  if (head_dim == 32) {
    launch<32>(problem, d_q, stream);
  } else if (head_dim == 64) {
    launch<64>(problem, d_q, stream);
  } else {
    launch<128>(problem, d_q, stream);
  }
}

}  // namespace nemoforge::ops
