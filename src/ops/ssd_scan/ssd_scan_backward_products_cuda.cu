// The scan's backward in chunks of 64 rows on tensor cores; the formulas are in ssd_scan_backward_steps.cuh.
//
// 1. chunk_states: a block takes one head of one chunk, and leaves the chunk's own share of the state after
// it
//    and of the gradient of the state before it, in bf16.
// 2. pass_states: both along the chunks, in fp32 registers.
// 3. chunk_gradients: a block takes one group of one chunk and walks the group's heads, with d_B and d_C in
//    registers: their sum over heads has one order. While a head is computed the next one's rows and states
//    are copied (x, d_y and two states twice, B, C and two matrices of weights: 144 KiB of shared memory for
//    heads of 64 x 128). The weights L_ij dt_j (C_i . B_j) and L_ij dt_j (d_y_i . x_j) are rounded to bf16,
//    as are the states; the sums that u and e are made of come from the fp32 products.
//
// A head and chunk take some 4.3 million multiply-adds at 64 x 128; each state is written once and read twice
// and written once more (536 MB in all for 4096 rows of Nemotron-3-Nano), x and d_y are read twice.
#include <algorithm>

#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/gradient_sums.h"
#include "ops/ssd_scan/ssd_scan_backward_products_cuda.h"
#include "ops/ssd_scan/ssd_scan_backward_steps.cuh"
#include "ops/tile_products.cuh"

namespace nemoforge::ops {
namespace {

using Bf = __nv_bfloat16;

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kRowTiles = kChunkRows / 16;  // of 16 rows; the warps stand kRowTiles x 2 over a chunk's matrix

struct ProductProblem {
  ScanGradientProblem scan;
  Bf16Rows x, b, c, d_y;
  Bf* states;     // [num_chunks, num_heads, head_dim, state_size]: before the chunks
  Bf* gradients;  // likewise: of the states after them
  float* decays;  // [num_chunks, num_heads]
};

struct Gradients {
  Bf16Gradient d_x, d_b, d_c;
};

// Starts the copy of one head's state.
template <int kHeadDim, int kState>
__device__ void load_state(const SharedTile<kState>& tile, const Bf* state) {
  constexpr int kPieces = kState / kPieceElements;
  for (int i = static_cast<int>(threadIdx.x); i < kHeadDim * kPieces; i += kThreads) {
    copy_piece(tile.piece(i / kPieces, i % kPieces), state + i * kPieceElements, true, true);
  }
}

template <int kHeadDim, int kState>
struct StateLayout {
  static constexpr int kRowElements = kChunkRows * kHeadDim;
  static constexpr int kColumnElements = kChunkRows * kState;
  static constexpr int kBytes = 2 * (kRowElements + kColumnElements) * static_cast<int>(sizeof(Bf));
};

// state [16 channels x 8 kBlocks columns] = sum over rows of weight[row] * left[row][channel]
// right[row][column]
template <int kBlocks, int kHeadDim, int kState>
__device__ void sum_outer_products(float (&sums)[kBlocks][4], const SharedTile<kHeadDim>& left,
                                   const SharedTile<kState>& right, const float* weights, int channel,
                                   int column, int lane) {
#pragma unroll
  for (int row = 0; row < kChunkRows; row += 16) {
    uint32_t a[4];
    load_a_transposed(a, left, row, channel, lane);
    const int own = row + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // Registers 0 and 1 have rows own and own + 1, 2 and 3 those 8 further.
      const int first = own + i / 2 * 8;
      const float2 pair = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&a[i]));
      a[i] = pack(pair.x * weights[first], pair.y * weights[first + 1]);
    }
    multiply_add_rows(sums, a, right, row, column, lane);
  }
}

template <int kHeadDim, int kState>
__global__ void __launch_bounds__(kThreads) chunk_states(ProductProblem problem) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ ChunkDocuments documents;
  __shared__ ChunkSteps steps;
  __shared__ float into_state[kChunkRows];  // dt_j to_end_j
  using Layout = StateLayout<kHeadDim, kState>;
  await_previous_kernel();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int head = static_cast<int>(blockIdx.x);
  const int chunk = static_cast<int>(blockIdx.y);
  const int first_row = chunk * kChunkRows;
  const int num_rows = problem.scan.documents.num_rows;
  const int group = head / problem.scan.heads_per_group;
  Bf* tiles = reinterpret_cast<Bf*>(shared);
  const SharedTile<kHeadDim> x{tiles};
  const SharedTile<kHeadDim> d_y{tiles + Layout::kRowElements};
  const SharedTile<kState> b{tiles + 2 * Layout::kRowElements};
  const SharedTile<kState> c{tiles + 2 * Layout::kRowElements + Layout::kColumnElements};
  load_rows<kChunkRows, kThreads>(x, problem.x, first_row, num_rows, head * kHeadDim);
  load_rows<kChunkRows, kThreads>(b, problem.b, first_row, num_rows, group * kState);
  load_rows<kChunkRows, kThreads>(d_y, problem.d_y, first_row, num_rows, head * kHeadDim);
  load_rows<kChunkRows, kThreads>(c, problem.c, first_row, num_rows, group * kState);
  commit_copies();
  find_chunk_documents(problem.scan.documents, first_row, documents);
  __syncthreads();  // the documents are known
  if (warp == 0) {
    make_steps(problem.scan, documents, first_row, head, lane, steps);
#pragma unroll
    for (int k = 0; k < kRowsPerLane; ++k) {
      const int i = lane + 32 * k;
      into_state[i] = steps.dt[i] * steps.to_end[i];
    }
    if (lane == 0) problem.decays[static_cast<int64_t>(chunk) * problem.scan.num_heads + head] = steps.decay;
  }
  wait_for_copies<0>();
  __syncthreads();  // rows and steps are there for all

  // The first four warps sum the state's share, the others the gradient's.
  constexpr int kChannelTiles = kHeadDim / 16;
  constexpr int kColumns = kState / (4 / kChannelTiles);
  const bool of_state = warp < 4;
  const int channel = warp % 4 % kChannelTiles * 16;
  const int column = warp % 4 / kChannelTiles * kColumns;
  float sums[kColumns / 8][4] = {};
  if (of_state) {
    sum_outer_products(sums, x, b, into_state, channel, column, lane);
  } else {
    sum_outer_products(sums, d_y, c, steps.from_start, channel, column, lane);
  }
  Bf* out = (of_state ? problem.states : problem.gradients) +
            (static_cast<int64_t>(chunk) * problem.scan.num_heads + head) * kHeadDim * kState;
#pragma unroll
  for (int block = 0; block < kColumns / 8; ++block) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      store_pair(out + (channel + lane / 4 + half * 8) * kState + column + block * 8 + lane % 4 * 2,
                 sums[block][2 * half], sums[block][2 * half + 1], true);
    }
  }
}

// Shared memory of chunk_gradients: B, C, weights of x and of B and C, then per buffer x, d_y and both
// states.
template <int kHeadDim, int kState>
struct GradientLayout {
  static constexpr int kRowElements = kChunkRows * kHeadDim;
  static constexpr int kColumnElements = kChunkRows * kState;
  static constexpr int kWeightElements = kChunkRows * kChunkRows;
  static constexpr int kStateElements = kHeadDim * kState;
  static constexpr int kFixedElements = 2 * kColumnElements + 2 * kWeightElements;
  static constexpr int kHeadElements = 2 * kRowElements + 2 * kStateElements;
  static constexpr int kBytes = (kFixedElements + 2 * kHeadElements) * static_cast<int>(sizeof(Bf));
};

template <int kHeadDim, int kState>
struct ChunkTiles {
  SharedTile<kState> b, c;
  SharedTile<kChunkRows> x_weights;   // L_ij dt_j (C_i . B_j)
  SharedTile<kChunkRows> bc_weights;  // L_ij dt_j (d_y_i . x_j)
};

template <int kHeadDim, int kState>
struct HeadTiles {
  SharedTile<kHeadDim> x, d_y;
  SharedTile<kState> state, gradient;
};

template <int kHeadDim, int kState>
__device__ ChunkTiles<kHeadDim, kState> chunk_tiles(Bf* shared) {
  using Layout = GradientLayout<kHeadDim, kState>;
  Bf* weights = shared + 2 * Layout::kColumnElements;
  return {{shared}, {shared + Layout::kColumnElements}, {weights}, {weights + Layout::kWeightElements}};
}

template <int kHeadDim, int kState>
__device__ HeadTiles<kHeadDim, kState> head_tiles(Bf* shared, int buffer) {
  using Layout = GradientLayout<kHeadDim, kState>;
  Bf* begin = shared + Layout::kFixedElements + buffer * Layout::kHeadElements;
  Bf* states = begin + 2 * Layout::kRowElements;
  return {{begin}, {begin + Layout::kRowElements}, {states}, {states + Layout::kStateElements}};
}

// Shares of a chunk's sums, by the warps that have them: each is written by one warp and added in order.
struct PartialSums {
  float rows[2][kChunkRows];
  float columns[kRowTiles][kChunkRows];
  float from_state[2][kChunkRows];
  float to_state[2][kChunkRows];
  float across[kWarps];
};

// Where a warp stands in the chunk's matrices: rows [row, row + 16) and half of the columns.
struct WarpPlace {
  int lane, warp, row, half;
};

// The warp's 16 x 32 part of both matrices of weights, and its shares of M's sums. c_b: C_i . B_j.
template <int kHeadDim, int kState>
__device__ void make_weights(const ChunkTiles<kHeadDim, kState>& tiles,
                             const HeadTiles<kHeadDim, kState>& own, const ChunkDocuments& documents,
                             const ChunkSteps& steps, const WarpPlace& place, const float (&c_b)[4][4],
                             PartialSums& partials, ChunkSums& sums) {
  float products[4][4] = {};  // d_y_i . x_j
  add_product_of_rows(products, own.d_y, place.row, own.x, place.half * 32, place.lane);
  float row_sums[2] = {};
#pragma unroll
  for (int block = 0; block < 4; ++block) {
    const int first_column = place.half * 32 + block * 8 + place.lane % 4 * 2;
    float column_sums[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = place.row + place.lane / 4 + half * 8;
      float x_weights[2];
      float bc_weights[2];
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int j = first_column + k;
        const float product = products[block][2 * half + k];
        const bool sees = j <= i && j >= documents.first[i];
        const float decay = sees ? steps.between(i, j) : 0.0f;
        const float dt = steps.dt[j];
        x_weights[k] = decay * dt * c_b[block][2 * half + k];
        bc_weights[k] = decay * dt * product;
        const float m = decay * c_b[block][2 * half + k] * product;
        column_sums[k] += m;
        row_sums[half] += dt * m;
        if (i == j) sums.skip[i] = product;
      }
      *reinterpret_cast<uint32_t*>(&tiles.x_weights.at(i, first_column)) = pack(x_weights[0], x_weights[1]);
      *reinterpret_cast<uint32_t*>(&tiles.bc_weights.at(i, first_column)) =
          pack(bc_weights[0], bc_weights[1]);
    }
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const float sum = sum_over_rows(column_sums[k]);
      if (place.lane < 4) partials.columns[place.row / 16][first_column + k] = sum;
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = sum_over_columns(row_sums[half]);
    if (place.lane % 4 == 0) partials.rows[place.half][place.row + place.lane / 4 + half * 8] = sum;
  }
}

// gradient [16 x kState / 2] += scale[row] * (left [row][p] state[p][n]), and each row's product of that with
// `other`'s row, scaled by other_scale, to `sums`.
template <int kHeadDim, int kState>
__device__ void add_from_state(float (&gradient)[kState / 16][4], const SharedTile<kHeadDim>& left,
                               const SharedTile<kState>& state, const SharedTile<kState>& other,
                               const float (&scales)[2], const float (&other_scales)[2],
                               const WarpPlace& place, float* sums) {
  // In two parts, to have registers for both.
  constexpr int kBlocks = kState / 32;
  float row_sums[2] = {};
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const int column = place.half * (kState / 2) + part * (kState / 4);
    float product[kBlocks][4] = {};
    add_product(product, left, place.row, state, column, 0, kHeadDim / 16, place.lane);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = place.row + place.lane / 4 + half * 8;
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const float2 pair = as_floats(&other.at(row, column + block * 8 + place.lane % 4 * 2));
        const float first = product[block][2 * half];
        const float second = product[block][2 * half + 1];
        row_sums[half] += first * pair.x + second * pair.y;
        gradient[part * kBlocks + block][2 * half] += scales[half] * first;
        gradient[part * kBlocks + block][2 * half + 1] += scales[half] * second;
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = sum_over_columns(row_sums[half]);
    if (place.lane % 4 == 0) sums[place.row + place.lane / 4 + half * 8] = other_scales[half] * sum;
  }
}

// The warp's share of <gradient, state>.
template <int kHeadDim, int kState>
__device__ float product_of_states(const HeadTiles<kHeadDim, kState>& own) {
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kHeadDim * kState / kPieceElements; i += kThreads) {
    const auto* state = reinterpret_cast<const __nv_bfloat162*>(own.state.data + i * kPieceElements);
    const auto* gradient = reinterpret_cast<const __nv_bfloat162*>(own.gradient.data + i * kPieceElements);
#pragma unroll
    for (int k = 0; k < kPieceElements / 2; ++k) {
      sum += __low2float(state[k]) * __low2float(gradient[k]) +
             __high2float(state[k]) * __high2float(gradient[k]);
    }
  }
  return warp_sum(sum);
}

// Adds the warp's rows of a gradient, from `column` on, to memory.
template <int kBlocks>
__device__ void add_rows(const Bf16Gradient& gradient, int first_row, int num_rows, int column,
                         const WarpPlace& place, const float (&sums)[kBlocks][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + place.row + place.lane / 4 + half * 8;
    if (row >= num_rows) continue;
    Bf* target = &gradient.rows.at(row, column + place.lane % 4 * 2);
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      add_pair(target + block * 8, sums[block][2 * half], sums[block][2 * half + 1], gradient.paired);
    }
  }
}

// d_x of the warp's rows and half of the head's channels.
template <int kHeadDim, int kState>
__device__ void add_x_gradient(const ProductProblem& problem, const Gradients& gradients,
                               const ChunkTiles<kHeadDim, kState>& tiles,
                               const HeadTiles<kHeadDim, kState>& own, const ChunkSteps& steps, int first_row,
                               int head, const WarpPlace& place) {
  constexpr int kBlocks = kHeadDim / 16;
  const int channel = place.half * (kHeadDim / 2);
  const float d = problem.scan.d[head];
  float sums[kBlocks][4] = {};
  add_product_of_rows(sums, tiles.b, place.row, own.gradient, channel, place.lane);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = place.row + place.lane / 4 + half * 8;
    const float scale = steps.dt[row] * steps.to_end[row];
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const float2 pair = as_floats(&own.d_y.at(row, channel + block * 8 + place.lane % 4 * 2));
      sums[block][2 * half] = scale * sums[block][2 * half] + d * pair.x;
      sums[block][2 * half + 1] = scale * sums[block][2 * half + 1] + d * pair.y;
    }
  }
  add_transposed_product(sums, tiles.x_weights, place.row, own.d_y, channel, place.row / 16, kRowTiles,
                         place.lane);
  add_rows(gradients.d_x, first_row, problem.scan.documents.num_rows, head * kHeadDim + channel, place, sums);
}

// Adds the partial sums up. By one warp.
__device__ inline void complete_sums(const PartialSums& partials, float decay, int lane, ChunkSums& sums) {
#pragma unroll
  for (int k = 0; k < kRowsPerLane; ++k) {
    const int i = lane + 32 * k;
    sums.rows[i] = partials.rows[0][i] + partials.rows[1][i];
    sums.from_state[i] = partials.from_state[0][i] + partials.from_state[1][i];
    sums.to_state[i] = partials.to_state[0][i] + partials.to_state[1][i];
    float columns = 0;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) columns += partials.columns[tile][i];
    sums.columns[i] = columns;
  }
  if (lane > 0) return;
  float across = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) across += partials.across[warp];
  sums.across = decay * across;
}

template <int kHeadDim, int kState>
__global__ void __launch_bounds__(kThreads, 1) chunk_gradients(ProductProblem problem, Gradients gradients) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ ChunkDocuments documents;
  __shared__ ChunkSteps steps_of[2];
  __shared__ PartialSums partials;
  __shared__ ChunkSums sums;
  await_previous_kernel();
  WarpPlace place;
  place.lane = static_cast<int>(threadIdx.x) % 32;
  place.warp = static_cast<int>(threadIdx.x) / 32;
  place.row = place.warp % kRowTiles * 16;
  place.half = place.warp / kRowTiles;
  const ScanGradientProblem& scan = problem.scan;
  const int group = static_cast<int>(blockIdx.x);
  const int chunk = static_cast<int>(blockIdx.y);
  const int first_row = chunk * kChunkRows;
  const int num_rows = scan.documents.num_rows;
  const int first_head = group * scan.heads_per_group;
  auto* elements = reinterpret_cast<Bf*>(shared);
  const auto tiles = chunk_tiles<kHeadDim, kState>(elements);
  const auto load_head = [&](int head) {
    const auto own = head_tiles<kHeadDim, kState>(elements, (head - first_head) % 2);
    const int64_t state = (static_cast<int64_t>(chunk) * scan.num_heads + head) * kHeadDim * kState;
    load_rows<kChunkRows, kThreads>(own.x, problem.x, first_row, num_rows, head * kHeadDim);
    load_rows<kChunkRows, kThreads>(own.d_y, problem.d_y, first_row, num_rows, head * kHeadDim);
    load_state<kHeadDim>(own.state, problem.states + state);
    load_state<kHeadDim>(own.gradient, problem.gradients + state);
    commit_copies();
  };

  load_rows<kChunkRows, kThreads>(tiles.b, problem.b, first_row, num_rows, group * kState);
  load_rows<kChunkRows, kThreads>(tiles.c, problem.c, first_row, num_rows, group * kState);
  load_head(first_head);
  find_chunk_documents(scan.documents, first_row, documents);
  __syncthreads();  // the documents are known
  if (place.warp == 0) make_steps(scan, documents, first_row, first_head, place.lane, steps_of[0]);

  float c_b[4][4] = {};
  float d_b[kState / 16][4] = {};
  float d_c[kState / 16][4] = {};
  for (int head = first_head; head < first_head + scan.heads_per_group; ++head) {
    const int buffer = (head - first_head) % 2;
    const auto own = head_tiles<kHeadDim, kState>(elements, buffer);
    const ChunkSteps& steps = steps_of[buffer];
    wait_for_copies<0>();
    __syncthreads();  // the head's tiles and steps are there for all; nobody reads those of the last one
    if (head + 1 < first_head + scan.heads_per_group) load_head(head + 1);
    if (head == first_head) {
      add_product_of_rows(c_b, tiles.c, place.row, tiles.b, place.half * 32, place.lane);
    }
    make_weights(tiles, own, documents, steps, place, c_b, partials, sums);
    const int own_rows[2] = {place.row + place.lane / 4, place.row + place.lane / 4 + 8};
    const float from_start[2] = {steps.from_start[own_rows[0]], steps.from_start[own_rows[1]]};
    const float into_state[2] = {steps.dt[own_rows[0]] * steps.to_end[own_rows[0]],
                                 steps.dt[own_rows[1]] * steps.to_end[own_rows[1]]};
    add_from_state(d_c, own.d_y, own.state, tiles.c, from_start, from_start, place,
                   partials.from_state[place.half]);
    add_from_state(d_b, own.x, own.gradient, tiles.b, into_state, {1.0f, 1.0f}, place,
                   partials.to_state[place.half]);
    const float across = steps.decay == 0.0f ? 0.0f : product_of_states(own);
    if (place.lane == 0) partials.across[place.warp] = across;
    __syncthreads();  // weights and sums are there for all

    const int tile = place.row / 16;
    const int column = place.half * (kState / 2);
    add_product(d_c, tiles.bc_weights, place.row, tiles.b, column, 0, tile + 1, place.lane);
    add_transposed_product(d_b, tiles.bc_weights, place.row, tiles.c, column, tile, kRowTiles, place.lane);
    add_x_gradient(problem, gradients, tiles, own, steps, first_row, head, place);
    if (place.warp == 0) {
      complete_sums(partials, steps.decay, place.lane, sums);
      __syncwarp();  // a lane reads what others completed
      add_step_gradients(scan, documents, steps, sums, chunk, head, place.lane);
    }
    if (place.warp == 1 && head + 1 < first_head + scan.heads_per_group) {
      make_steps(scan, documents, first_row, head + 1, place.lane, steps_of[1 - buffer]);
    }
  }
  const int column = group * kState + place.half * (kState / 2);
  add_rows(gradients.d_b, first_row, num_rows, column, place, d_b);
  add_rows(gradients.d_c, first_row, num_rows, column, place, d_c);
}

// The parts of the scratch memory, in bytes from its start.
struct ScratchLayout {
  int64_t gradients;
  int64_t decays;
  int64_t parameter_partials;
  int64_t num_bytes;
};

ScratchLayout scratch_layout(const SsdScanBackwardArgs& args) {
  constexpr int64_t kAlignment = 256;
  const auto padded = [](int64_t num_bytes) { return ceil_div(num_bytes, kAlignment) * kAlignment; };
  const int64_t heads = num_chunks_of(args) * args.num_heads;
  const int64_t states = padded(heads * args.head_dim * args.state_size * static_cast<int64_t>(sizeof(Bf)));
  ScratchLayout layout{};
  layout.gradients = states;
  layout.decays = layout.gradients + states;
  layout.parameter_partials = layout.decays + padded(heads * static_cast<int64_t>(sizeof(float)));
  layout.num_bytes = layout.parameter_partials +
                     (args.d_a_log ? padded(3 * heads * static_cast<int64_t>(sizeof(float))) : 0);
  return layout;
}

template <int kHeadDim, int kState>
void launch(const ProductProblem& problem, const Gradients& gradients, int num_groups, OpStream& stream) {
  using States = StateLayout<kHeadDim, kState>;
  using Layout = GradientLayout<kHeadDim, kState>;
  const auto num_chunks = static_cast<unsigned>(problem.scan.num_chunks);
  const auto num_heads = static_cast<unsigned>(problem.scan.num_heads);
  CUDA_CHECK(cudaFuncSetAttribute(chunk_states<kHeadDim, kState>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  States::kBytes));
  CUDA_CHECK(cudaFuncSetAttribute(chunk_gradients<kHeadDim, kState>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, Layout::kBytes));
  stream.launch(chunk_states<kHeadDim, kState>, dim3(num_heads, num_chunks), kThreads, States::kBytes,
                problem);
  constexpr int kElements = 8;
  constexpr int kPassThreads = 128;
  constexpr int kStateNumel = kHeadDim * kState;
  stream.launch(pass_states<Bf, kElements>,
                dim3(ceil_div<unsigned>(num_heads * kStateNumel, kPassThreads * kElements), 2), kPassThreads,
                0, problem.states, problem.gradients, problem.decays, problem.scan.num_chunks,
                problem.scan.num_heads, kStateNumel);
  stream.launch(chunk_gradients<kHeadDim, kState>, dim3(static_cast<unsigned>(num_groups), num_chunks),
                kThreads, Layout::kBytes, problem, gradients);
}

}  // namespace

bool ssd_scan_backward_has_products(const SsdScanBackwardArgs& args) {
  return args.x.dtype() == DType::kBF16 && (args.head_dim == 32 || args.head_dim == 64) &&
         (args.state_size == 64 || args.state_size == 128) && num_chunks_of(args) <= 65535;
}

void ssd_scan_backward_products(const SsdScanBackwardArgs& args, CudaTrainingContext& context) {
  const ScratchLayout layout = scratch_layout(args);
  auto* memory = static_cast<char*>(context.memory(layout.num_bytes));
  auto* partials = args.d_a_log ? reinterpret_cast<float*>(memory + layout.parameter_partials) : nullptr;
  const ProductProblem problem{scan_gradient_problem(args, partials),
                               bf16_rows(args.x),
                               bf16_rows(args.b),
                               bf16_rows(args.c),
                               bf16_rows(args.d_y),
                               reinterpret_cast<Bf*>(memory),
                               reinterpret_cast<Bf*>(memory + layout.gradients),
                               reinterpret_cast<float*>(memory + layout.decays)};
  const Gradients gradients{bf16_gradient(args.d_x), bf16_gradient(args.d_b), bf16_gradient(args.d_c)};
  const auto num_groups = static_cast<int>(args.num_groups);
  OpStream& stream = context.stream();
  if (args.head_dim == 32 && args.state_size == 64) {
    launch<32, 64>(problem, gradients, num_groups, stream);
  } else if (args.head_dim == 32) {
    launch<32, 128>(problem, gradients, num_groups, stream);
  } else if (args.state_size == 64) {
    launch<64, 64>(problem, gradients, num_groups, stream);
  } else {
    launch<64, 128>(problem, gradients, num_groups, stream);
  }
  add_parameter_gradients(args, problem.scan, stream);
}

}  // namespace nemoforge::ops
