// What both CUDA kernels of the scan's backward know of the rows of a chunk, and what they make of their
// sums.
//
// Chunks of kChunkRows rows begin at multiples of kChunkRows of the packed batch, whatever documents the rows
// belong to; factors of zero keep documents apart. For one head, with s_i the sum of a dt over the rows of
// i's document in the chunk up to i, h the state before the chunk and G the gradient of the state after it:
//
//   L_ij = exp(s_i - s_j) for j <= i of one document, else 0
//   d_x_j = dt_j (sum_i L_ij (C_i . B_j) d_y_i + to_end_j G B_j) + D d_y_j
//   d_C_i = sum_j L_ij dt_j (d_y_i . x_j) B_j + from_start_i h^T d_y_i
//   d_B_j = dt_j (sum_i L_ij (d_y_i . x_j) C_i + to_end_j G^T x_j)
//   u_j   = x_j . (H_j B_j) = sum_i M_ij + to_end_j x_j . (G B_j),   M_ij = L_ij (C_i . B_j)(d_y_i . x_j)
//   e_t   = sum over i >= t > j of one document of dt_j M_ij + sum_{i >= t} from_start_i d_y_i . (h C_i)
//           + sum_{j < t} dt_j to_end_j x_j . (G B_j) + decay <G, h>
//
// with from_start_i = exp(s_i) where the row's document began before the chunk, to_end_j = exp(s_last - s_j)
// where it goes on after it, decay = exp(s_last) where both are so of one document, else 0. The first sum of
// e_t is that of (row sums - column sums) of dt_j M_ij over i >= t, and d_dt, d_A_log and the rest follow
// from u and e as in ssd_scan_backward.h. Source: Dao & Gu (2024), section 6, differentiated.
#pragma once

#include <cfloat>
#include <cstdint>

#include "base/integers.h"
#include "ops/document_rows.cuh"
#include "ops/gradient_elements.cuh"
#include "ops/gradient_sums.h"
#include "ops/ssd_scan/ssd_scan_backward.h"

namespace nemoforge::ops {

constexpr int kChunkRows = 64;
constexpr int kRowsPerLane = kChunkRows / 32;
// exp of less is zero in fp32; sums of steps no larger than this stay finite.
constexpr float kLeastLogDecay = -104.0f;

// The arguments that no kernel reads in its inner loops.
struct ScanGradientProblem {
  DocumentRows documents;
  AnyRows dt_raw;
  AnyRows d_dt_raw;
  const float* a_log;
  const float* d;
  const float* dt_bias;
  int num_heads, heads_per_group, num_chunks;
  float* parameter_partials;  // [num_chunks, 3, num_heads]: of a_log, d, dt_bias; null where frozen
};

// Where a chunk's rows stand in their documents.
struct ChunkDocuments {
  int first[kChunkRows];  // the chunk's first row of the document of row i
  int last[kChunkRows];   // and its last one
  bool began_before[kChunkRows];
  bool goes_on[kChunkRows];
};

// Of one head. Rows beyond the batch have dt = 0.
struct ChunkSteps {
  float raw[kChunkRows];  // dt_raw + dt_bias
  float dt[kChunkRows];
  float sum_high[kChunkRows];  // s_i in two floats: differences of large sums stay good
  float sum_low[kChunkRows];
  float from_start[kChunkRows];
  float to_end[kChunkRows];      // without dt
  float into_state[kChunkRows];  // dt_j to_end_j
  float decay;
  float a;

  // exp(s_i - s_j), for j <= i.
  __device__ float between(int i, int j) const {
    return __expf((sum_high[i] - sum_high[j]) + (sum_low[i] - sum_low[j]));
  }
};

// The sums over a chunk that the steps' gradients are made of.
struct ChunkSums {
  float rows[kChunkRows];        // sum_j dt_j M_ij
  float columns[kChunkRows];     // sum_i M_ij
  float from_state[kChunkRows];  // from_start_i d_y_i . (h C_i)
  float to_state[kChunkRows];    // x_j . (G B_j)
  float skip[kChunkRows];        // x_i . d_y_i
  float across;                  // decay <G, h>
};

// By the threads [0, kChunkRows) of a block.
__device__ inline void find_chunk_documents(const DocumentRows& documents, int first_row,
                                            ChunkDocuments& found) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= kChunkRows) return;
  const int row = first_row + i;
  if (row >= documents.num_rows) {
    found.first[i] = found.last[i] = i;
    found.began_before[i] = found.goes_on[i] = false;
    return;
  }
  const RowRange range = document_of(documents, row);
  found.first[i] = max(range.begin - first_row, 0);
  found.last[i] = min(range.end - first_row, kChunkRows) - 1;
  found.began_before[i] = range.begin < first_row;
  found.goes_on[i] = range.end > first_row + kChunkRows;
}

// sums[k] of row i = lane + 32 k becomes the sum over the rows of its document from i on (up to i where
// !kFromEnd) in the chunk. By one warp.
template <bool kFromEnd, typename T>
__device__ void sum_along_documents(const ChunkDocuments& documents, int lane, T (&sums)[kRowsPerLane]) {
#pragma unroll
  for (int k = 0; k < kRowsPerLane; ++k) {
    const int row = lane + 32 * k;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      if constexpr (kFromEnd) {
        const T other = __shfl_down_sync(0xffffffffu, sums[k], distance);
        if (lane + distance < 32 && row + distance <= documents.last[row]) sums[k] += other;
      } else {
        const T other = __shfl_up_sync(0xffffffffu, sums[k], distance);
        if (lane >= distance && row - distance >= documents.first[row]) sums[k] += other;
      }
    }
  }
  // From one 32 rows to the next, if the document goes on there.
#pragma unroll
  for (int step = 1; step < kRowsPerLane; ++step) {
    const int k = kFromEnd ? kRowsPerLane - 1 - step : step;
    const int row = lane + 32 * k;
    const T other = __shfl_sync(0xffffffffu, sums[kFromEnd ? k + 1 : k - 1], kFromEnd ? 0 : 31);
    const bool continues = kFromEnd ? documents.last[row] >= 32 * (k + 1) : documents.first[row] < 32 * k;
    if (continues) sums[k] += other;
  }
}

// By one warp; a lane has the rows lane + 32 k.
__device__ inline void make_steps(const ScanGradientProblem& problem, const ChunkDocuments& documents,
                                  int first_row, int head, int lane, ChunkSteps& steps) {
  // -inf times a step of 0 would be NaN.
  const float a = fmaxf(-expf(problem.a_log[head]), -FLT_MAX);
  double sums[kRowsPerLane];
#pragma unroll
  for (int k = 0; k < kRowsPerLane; ++k) {
    const int i = lane + 32 * k;
    const bool exists = first_row + i < problem.documents.num_rows;
    const float raw = exists ? problem.dt_raw.load(first_row + i, head) + problem.dt_bias[head] : 0.0f;
    const float dt = exists ? softplus(raw) : 0.0f;
    steps.raw[i] = raw;
    steps.dt[i] = dt;
    sums[k] = fmaxf(a * dt, kLeastLogDecay);
  }
  // Each document's sums begin with 0, so that none has rounding of what comes before it.
  sum_along_documents<false>(documents, lane, sums);
  const double last = __shfl_sync(0xffffffffu, sums[kRowsPerLane - 1], 31);
#pragma unroll
  for (int k = 0; k < kRowsPerLane; ++k) {
    const int i = lane + 32 * k;
    steps.sum_high[i] = static_cast<float>(sums[k]);
    steps.sum_low[i] = static_cast<float>(sums[k] - static_cast<double>(steps.sum_high[i]));
    steps.from_start[i] = documents.began_before[i] ? expf(static_cast<float>(sums[k])) : 0.0f;
    steps.to_end[i] = documents.goes_on[i] ? expf(static_cast<float>(last - sums[k])) : 0.0f;
    steps.into_state[i] = steps.dt[i] * steps.to_end[i];
  }
  if (lane > 0) return;
  const bool passes = documents.began_before[0] && documents.goes_on[0];
  steps.decay = passes ? expf(static_cast<float>(last)) : 0.0f;
  steps.a = a;
}

// Adds the gradients of dt_raw and leaves the chunk's shares of the parameters'. By one warp.
__device__ inline void add_step_gradients(const ScanGradientProblem& problem, const ChunkDocuments& documents,
                                          const ChunkSteps& steps, const ChunkSums& sums, int chunk, int head,
                                          int lane) {
  float later[kRowsPerLane];    // of terms of e_t from rows i >= t
  float earlier[kRowsPerLane];  // of those from rows j < t, here up to and with t
  float own[kRowsPerLane];
#pragma unroll
  for (int k = 0; k < kRowsPerLane; ++k) {
    const int i = lane + 32 * k;
    later[k] = sums.rows[i] - steps.dt[i] * sums.columns[i] + sums.from_state[i];
    own[k] = earlier[k] = steps.into_state[i] * sums.to_state[i];
  }
  sum_along_documents<true>(documents, lane, later);
  sum_along_documents<false>(documents, lane, earlier);
  float d_a_log = 0;
  float d_d = 0;
  float d_dt_bias = 0;
#pragma unroll
  for (int k = 0; k < kRowsPerLane; ++k) {
    const int i = lane + 32 * k;
    const int row = chunk * kChunkRows + i;
    if (row >= problem.documents.num_rows) continue;
    const float e = later[k] + (earlier[k] - own[k]) + sums.across;
    const float u = sums.columns[i] + steps.to_end[i] * sums.to_state[i];
    const float d_raw = (u + steps.a * e) / (1.0f + expf(-steps.raw[i]));
    problem.d_dt_raw.add(row, head, d_raw);
    d_a_log += steps.a * steps.dt[i] * e;
    d_d += sums.skip[i];
    d_dt_bias += d_raw;
  }
  if (problem.parameter_partials == nullptr) return;
  d_a_log = warp_sum(d_a_log);
  d_d = warp_sum(d_d);
  d_dt_bias = warp_sum(d_dt_bias);
  if (lane > 0) return;
  float* partials = problem.parameter_partials + static_cast<int64_t>(chunk) * 3 * problem.num_heads + head;
  partials[0] = d_a_log;
  partials[problem.num_heads] = d_d;
  partials[2 * problem.num_heads] = d_dt_bias;
}

// States before the chunks and gradients of states after them from each chunk's own share, in place: a thread
// walks the chunks with kElements of a head's state. `own`: [num_chunks, num_heads, state_numel], of the
// states where blockIdx.y is 0, else of the gradients. decays [num_chunks, num_heads].
template <typename T, int kElements>
__global__ void pass_states(T* own_states, T* own_gradients, const float* decays, int num_chunks,
                            int num_heads, int state_numel) {
  await_previous_kernel();
  const int64_t numel = static_cast<int64_t>(num_heads) * state_numel;
  const int64_t place = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kElements;
  if (place >= numel) return;
  const int head = static_cast<int>(place / state_numel);
  const bool backward = blockIdx.y == 1;
  T* own = (backward ? own_gradients : own_states) + place;
  using Elements = Pack<T, kElements>;
  float passed[kElements] = {};
  // Several chunks are read before the first of them is written, so that their loads wait together.
  constexpr int kAhead = 4;
  for (int first_step = 0; first_step < num_chunks; first_step += kAhead) {
    Elements shares[kAhead];
    float chunk_decays[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int step = first_step + k;
      if (step >= num_chunks) break;
      const int64_t chunk = backward ? num_chunks - 1 - step : step;
      shares[k] = *reinterpret_cast<const Elements*>(own + chunk * numel);
      chunk_decays[k] = decays[chunk * num_heads + head];
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int step = first_step + k;
      if (step >= num_chunks) break;
      const int64_t chunk = backward ? num_chunks - 1 - step : step;
      Elements before;
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        before.values[i] = from_float<T>(passed[i]);
        passed[i] = chunk_decays[k] * passed[i] + to_float(shares[k].values[i]);
      }
      *reinterpret_cast<Elements*>(own + chunk * numel) = before;
    }
  }
}

inline int64_t num_chunks_of(const SsdScanBackwardArgs& args) {
  return ceil_div<int64_t>(args.rows->num_tokens, kChunkRows);
}

inline ScanGradientProblem scan_gradient_problem(const SsdScanBackwardArgs& args, float* parameter_partials) {
  return {{args.rows->cu_seqlens.data<int32_t>(), static_cast<int>(args.rows->num_sequences),
           static_cast<int>(args.rows->num_tokens)},
          any_rows(args.dt_raw),
          any_rows(args.d_dt_raw),
          args.a_log.data<float>(),
          args.d.data<float>(),
          args.dt_bias.data<float>(),
          static_cast<int>(args.num_heads),
          static_cast<int>(args.num_heads / args.num_groups),
          static_cast<int>(num_chunks_of(args)),
          parameter_partials};
}

// Adds up the chunks' shares of the parameters' gradients, where those are wanted.
inline void add_parameter_gradients(const SsdScanBackwardArgs& args, const ScanGradientProblem& problem,
                                    OpStream& stream) {
  if (problem.parameter_partials == nullptr) return;
  const int64_t num_heads = problem.num_heads;
  float* const gradients[3] = {args.d_a_log.data<float>(), args.d_d.data<float>(),
                               args.d_dt_bias.data<float>()};
  for (int i = 0; i < 3; ++i) {
    add_partial_sums(problem.parameter_partials + i * num_heads, problem.num_chunks, 3 * num_heads, num_heads,
                     gradients[i], stream);
  }
}

}  // namespace nemoforge::ops
