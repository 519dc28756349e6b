// d_k and d_v, as shares of a part of the query heads each.
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
constexpr int kTileKeys = kAttentionOwnRows;

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

__device__ inline VisitedRow read_visited_row(const AttentionGradientProblem& problem, int head, int row) {
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
__global__ void __launch_bounds__(kThreads, 1) key_gradients(AttentionGradientProblem problem) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ VisitedRows visited_rows[2];
  using Layout = AttentionTiles<kHeadDim>;
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

template <int kHeadDim>
void launch(const AttentionGradientProblem& problem, OpStream& stream) {
  constexpr int kSharedBytes = AttentionTiles<kHeadDim>::kBytes;
  CUDA_CHECK(cudaFuncSetAttribute(key_gradients<kHeadDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
  stream.launch(key_gradients<kHeadDim>,
                dim3(static_cast<unsigned>(problem.num_heads / problem.heads_per_split),
                     static_cast<unsigned>(ceil_div(problem.documents.num_rows, kTileKeys))),
                kThreads, kSharedBytes, problem);
}

}  // namespace

void launch_key_gradients(const AttentionGradientProblem& problem, int head_dim, OpStream& stream) {
  if (head_dim == 32) {
    launch<32>(problem, stream);
  } else if (head_dim == 64) {
    launch<64>(problem, stream);
  } else {
    launch<128>(problem, stream);
  }
}

}  // namespace nemoforge::ops
