// The scan's backward in chunks of 64 rows on tensor cores; the formulas are in ssd_scan_backward_steps.cuh.
//
// chunk_gradients: a block takes one group of one chunk and walks the group's heads, with d_B and d_C in
// registers: their sum over heads has one order. While a head is computed the next one's rows and states are
// copied (x, d_y and two states twice, B, C and two matrices of weights: 144 KiB of shared memory for heads
// of 64 x 128). The weights L_ij dt_j (C_i . B_j) and L_ij dt_j (d_y_i . x_j) are rounded to bf16, as are the
// states; the sums that u and e are made of come from the fp32 products.
//
// A head and chunk take some 4.3 million multiply-adds at 64 x 128; each state is written twice and read
// twice (536 MB in all for 4096 rows of Nemotron-3-Nano), x and d_y are read twice.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/ssd_scan/ssd_scan_backward_products_cuda.h"
#include "ops/ssd_scan/ssd_scan_backward_states_cuda.h"

namespace nemoforge::ops {
namespace {

using Bf = __nv_bfloat16;

// The warps stand kRowTiles x kParts over a chunk's matrices: each has 16 rows and a part of the columns.
constexpr int kRowTiles = kChunkRows / 16;
template <int kHeadDim>
constexpr int kParts = kHeadDim / 16;  // 16 channels a warp
template <int kHeadDim>
constexpr int kWarps = kRowTiles* kParts<kHeadDim>;
template <int kHeadDim>
constexpr int kThreads = kWarps<kHeadDim> * 32;

struct Gradients {
  Bf16Gradient d_x, d_b, d_c;
};

// Starts the copy of one head's state.
template <int kHeadDim, int kState>
__device__ void load_state(const SharedTile<kState>& tile, const Bf* state) {
  constexpr int kPieces = kState / kPieceElements;
  for (int i = static_cast<int>(threadIdx.x); i < kHeadDim * kPieces; i += kThreads<kHeadDim>) {
    copy_piece(tile.piece(i / kPieces, i % kPieces), state + i * kPieceElements, true, true);
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
template <int kHeadDim>
struct PartialSums {
  float rows[kParts<kHeadDim>][kChunkRows];
  float columns[kRowTiles][kChunkRows];
  float from_state[kParts<kHeadDim>][kChunkRows];
  float to_state[kParts<kHeadDim>][kChunkRows];
  float across[kWarps<kHeadDim>];
};

// Where a warp stands in the chunk's matrices: rows [row, row + 16) and a part of the columns.
struct WarpPlace {
  int lane, warp, row, part;
};

// The warp's part of both matrices of weights, and its shares of M's sums. c_b: C_i . B_j.
template <int kBlocks, int kHeadDim, int kState>
__device__ void make_weights(const ChunkTiles<kHeadDim, kState>& tiles,
                             const HeadTiles<kHeadDim, kState>& own, const ChunkDocuments& documents,
                             const ChunkSteps& steps, const WarpPlace& place, const float (&c_b)[kBlocks][4],
                             PartialSums<kHeadDim>& partials, ChunkSums& sums) {
  const int part_column = place.part * kBlocks * 8;
  float products[kBlocks][4] = {};  // d_y_i . x_j
  add_product_of_rows(products, own.d_y, place.row, own.x, part_column, place.lane);
  float row_sums[2] = {};
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    const int first_column = part_column + block * 8 + place.lane % 4 * 2;
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
    if (place.lane % 4 == 0) partials.rows[place.part][place.row + place.lane / 4 + half * 8] = sum;
  }
}

// gradient [16 x 8 kBlocks] += scale[row] * (left [row][p] state[p][n]) for the warp's part of the columns,
// and each row's product of that with `other`'s row, scaled by other_scale, to `sums`.
template <int kBlocks, int kHeadDim, int kState>
__device__ void add_from_state(float (&gradient)[kBlocks][4], const SharedTile<kHeadDim>& left,
                               const SharedTile<kState>& state, const SharedTile<kState>& other,
                               const float (&scales)[2], const float (&other_scales)[2],
                               const WarpPlace& place, float* sums) {
  const int column = place.part * kBlocks * 8;
  float product[kBlocks][4] = {};
  add_product(product, left, place.row, state, column, 0, kHeadDim / 16, place.lane);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = place.row + place.lane / 4 + half * 8;
    float sum = 0;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const float2 pair = as_floats(&other.at(row, column + block * 8 + place.lane % 4 * 2));
      const float first = product[block][2 * half];
      const float second = product[block][2 * half + 1];
      sum += first * pair.x + second * pair.y;
      gradient[block][2 * half] += scales[half] * first;
      gradient[block][2 * half + 1] += scales[half] * second;
    }
    sum = sum_over_columns(sum);
    if (place.lane % 4 == 0) sums[row] = other_scales[half] * sum;
  }
}

// The warp's share of <gradient, state>.
template <int kHeadDim, int kState>
__device__ float product_of_states(const HeadTiles<kHeadDim, kState>& own) {
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kHeadDim * kState / kPieceElements;
       i += kThreads<kHeadDim>) {
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

// What the warp's part of a gradient, from `column` on, holds so far: read before the products that are added
// to it, which then do not wait for memory.
template <int kBlocks>
__device__ void read_rows(const Bf16Gradient& gradient, int first_row, int num_rows, int column,
                          const WarpPlace& place, PackedSums<kBlocks>& held) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + place.row + place.lane / 4 + half * 8;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      held[block][half] = 0;
      if (row >= num_rows) continue;
      const Bf* source = &gradient.rows.at(row, column + block * 8 + place.lane % 4 * 2);
      held[block][half] = gradient.paired ? *reinterpret_cast<const uint32_t*>(source)
                                          : as_register(__nv_bfloat162(source[0], source[1]));
    }
  }
}

template <int kBlocks>
__device__ void write_rows(const Bf16Gradient& gradient, int first_row, int num_rows, int column,
                           const WarpPlace& place, const PackedSums<kBlocks>& held,
                           const float (&sums)[kBlocks][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + place.row + place.lane / 4 + half * 8;
    if (row >= num_rows) continue;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const float2 old = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&held[block][half]));
      store_pair(&gradient.rows.at(row, column + block * 8 + place.lane % 4 * 2),
                 old.x + sums[block][2 * half], old.y + sums[block][2 * half + 1], gradient.paired);
    }
  }
}

// d_x of the warp's rows and channels.
template <int kHeadDim, int kState>
__device__ void add_x_gradient(const ProductProblem& problem, const Bf16Gradient& d_x,
                               const ChunkTiles<kHeadDim, kState>& tiles,
                               const HeadTiles<kHeadDim, kState>& own, const ChunkSteps& steps, int first_row,
                               int head, const WarpPlace& place) {
  constexpr int kBlocks = 2;
  const int num_rows = problem.scan.documents.num_rows;
  const int channel = place.part * kBlocks * 8;
  PackedSums<kBlocks> held;
  read_rows<kBlocks>(d_x, first_row, num_rows, head * kHeadDim + channel, place, held);
  const float d = problem.scan.d[head];
  float sums[kBlocks][4] = {};
  add_product_of_rows(sums, tiles.b, place.row, own.gradient, channel, place.lane);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = place.row + place.lane / 4 + half * 8;
    const float scale = steps.into_state[row];
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const float2 pair = as_floats(&own.d_y.at(row, channel + block * 8 + place.lane % 4 * 2));
      sums[block][2 * half] = scale * sums[block][2 * half] + d * pair.x;
      sums[block][2 * half + 1] = scale * sums[block][2 * half + 1] + d * pair.y;
    }
  }
  add_transposed_product(sums, tiles.x_weights, place.row, own.d_y, channel, place.row / 16, kRowTiles,
                         place.lane);
  write_rows<kBlocks>(d_x, first_row, num_rows, head * kHeadDim + channel, place, held, sums);
}

// Adds the partial sums up. By one warp.
template <int kHeadDim>
__device__ void complete_sums(const PartialSums<kHeadDim>& partials, float decay, int lane, ChunkSums& sums) {
#pragma unroll
  for (int k = 0; k < kRowsPerLane; ++k) {
    const int i = lane + 32 * k;
    float rows = 0;
    float from_state = 0;
    float to_state = 0;
#pragma unroll
    for (int part = 0; part < kParts<kHeadDim>; ++part) {
      rows += partials.rows[part][i];
      from_state += partials.from_state[part][i];
      to_state += partials.to_state[part][i];
    }
    float columns = 0;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) columns += partials.columns[tile][i];
    sums.rows[i] = rows;
    sums.columns[i] = columns;
    sums.from_state[i] = from_state;
    sums.to_state[i] = to_state;
  }
  const float across = warp_sum(lane < kWarps<kHeadDim> ? partials.across[lane] : 0.0f);
  if (lane == 0) sums.across = decay * across;
}

// The block's chunk and group.
struct BlockPart {
  int chunk, group, first_row, first_head, end_head;
};

__device__ inline BlockPart part_of_block(const ScanGradientProblem& scan) {
  const int group = static_cast<int>(blockIdx.x);
  const int chunk = static_cast<int>(blockIdx.y);
  const int first_head = group * scan.heads_per_group;
  return {chunk, group, chunk * kChunkRows, first_head, first_head + scan.heads_per_group};
}

// Starts the copies of a head's rows and states.
template <int kHeadDim, int kState>
__device__ void load_head(const ProductProblem& problem, const BlockPart& part, int head,
                          const HeadTiles<kHeadDim, kState>& tiles) {
  const int num_rows = problem.scan.documents.num_rows;
  const int64_t state =
      (static_cast<int64_t>(part.chunk) * problem.scan.num_heads + head) * kHeadDim * kState;
  load_rows<kChunkRows, kThreads<kHeadDim>>(tiles.x, problem.x, part.first_row, num_rows, head * kHeadDim);
  load_rows<kChunkRows, kThreads<kHeadDim>>(tiles.d_y, problem.d_y, part.first_row, num_rows,
                                            head * kHeadDim);
  load_state<kHeadDim>(tiles.state, problem.states + state);
  load_state<kHeadDim>(tiles.gradient, problem.gradients + state);
  commit_copies();
}

template <int kHeadDim, int kState>
__global__ void __launch_bounds__(kThreads<kHeadDim>, 1)
    chunk_gradients(ProductProblem problem, Gradients gradients) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ ChunkDocuments documents;
  __shared__ ChunkSteps steps_of[kHeadsAtOnce];
  __shared__ ChunkSums sums_of[kHeadsAtOnce];
  __shared__ PartialSums<kHeadDim> partials;
  constexpr int kRowBlocks = kChunkRows / kParts<kHeadDim> / 8;  // of a warp in a matrix over rows
  constexpr int kStateBlocks = kState / kParts<kHeadDim> / 8;    // and in one over the state's columns
  await_previous_kernel();
  WarpPlace place;
  place.lane = static_cast<int>(threadIdx.x) % 32;
  place.warp = static_cast<int>(threadIdx.x) / 32;
  place.row = place.warp % kRowTiles * 16;
  place.part = place.warp / kRowTiles;
  const ScanGradientProblem& scan = problem.scan;
  const BlockPart part = part_of_block(scan);
  const int num_rows = scan.documents.num_rows;
  auto* elements = reinterpret_cast<Bf*>(shared);
  const auto tiles = chunk_tiles<kHeadDim, kState>(elements);
  const auto tiles_of = [&](int head) {
    return head_tiles<kHeadDim, kState>(elements, (head - part.first_head) % 2);
  };
  load_rows<kChunkRows, kThreads<kHeadDim>>(tiles.b, problem.b, part.first_row, num_rows,
                                            part.group * kState);
  load_rows<kChunkRows, kThreads<kHeadDim>>(tiles.c, problem.c, part.first_row, num_rows,
                                            part.group * kState);
  load_head(problem, part, part.first_head, tiles_of(part.first_head));
  find_chunk_documents(scan.documents, part.first_row, documents);

  float c_b[kRowBlocks][4] = {};
  float d_b[kStateBlocks][4] = {};
  float d_c[kStateBlocks][4] = {};
  const int tile = place.row / 16;
  const int column = place.part * kStateBlocks * 8;
  for (int head = part.first_head; head < part.end_head; ++head) {
    const int index = (head - part.first_head) % kHeadsAtOnce;
    if (index == 0) {
      __syncthreads();  // the documents are known
      if (place.warp < kHeadsAtOnce && head + place.warp < part.end_head) {
        make_steps(scan, documents, part.first_row, head + place.warp, place.lane, steps_of[place.warp]);
      }
    }
    const auto own = tiles_of(head);
    const ChunkSteps& steps = steps_of[index];
    hide_value(place.lane);
    wait_for_copies<0>();
    __syncthreads();  // the head's tiles and steps are there for all; nobody reads those of the last one
    if (head + 1 < part.end_head) load_head(problem, part, head + 1, tiles_of(head + 1));
    if (head == part.first_head) {
      add_product_of_rows(c_b, tiles.c, place.row, tiles.b, place.part * kRowBlocks * 8, place.lane);
    }
    make_weights(tiles, own, documents, steps, place, c_b, partials, sums_of[index]);
    const int own_row = place.row + place.lane / 4;
    const float from_start[2] = {steps.from_start[own_row], steps.from_start[own_row + 8]};
    const float into_state[2] = {steps.into_state[own_row], steps.into_state[own_row + 8]};
    add_from_state(d_c, own.d_y, own.state, tiles.c, from_start, from_start, place,
                   partials.from_state[place.part]);
    add_from_state(d_b, own.x, own.gradient, tiles.b, into_state, {1.0f, 1.0f}, place,
                   partials.to_state[place.part]);
    const float across = steps.decay == 0.0f ? 0.0f : product_of_states(own);
    if (place.lane == 0) partials.across[place.warp] = across;
    __syncthreads();  // weights and sums are there for all

    if (place.warp == 0) complete_sums<kHeadDim>(partials, steps.decay, place.lane, sums_of[index]);
    add_product(d_c, tiles.bc_weights, place.row, tiles.b, column, 0, tile + 1, place.lane);
    add_transposed_product(d_b, tiles.bc_weights, place.row, tiles.c, column, tile, kRowTiles, place.lane);
    add_x_gradient(problem, gradients.d_x, tiles, own, steps, part.first_row, head, place);
    if (index + 1 < kHeadsAtOnce && head + 1 < part.end_head) continue;
    __syncthreads();  // the sums of all these heads are complete
    if (place.warp <= index) {
      add_step_gradients(scan, documents, steps_of[place.warp], sums_of[place.warp], part.chunk,
                         head - index + place.warp, place.lane);
    }
  }
  PackedSums<kStateBlocks> held_b;
  PackedSums<kStateBlocks> held_c;
  const int bc_column = part.group * kState + column;
  read_rows<kStateBlocks>(gradients.d_b, part.first_row, num_rows, bc_column, place, held_b);
  read_rows<kStateBlocks>(gradients.d_c, part.first_row, num_rows, bc_column, place, held_c);
  write_rows<kStateBlocks>(gradients.d_b, part.first_row, num_rows, bc_column, place, held_b, d_b);
  write_rows<kStateBlocks>(gradients.d_c, part.first_row, num_rows, bc_column, place, held_c, d_c);
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
void launch(const ProductProblem& problem, const Gradients& gradients, OpStream& stream) {
  static_assert(kWarps<kHeadDim> >= kHeadsAtOnce);
  constexpr int kSharedBytes = GradientLayout<kHeadDim, kState>::kBytes;
  CUDA_CHECK(cudaFuncSetAttribute(chunk_gradients<kHeadDim, kState>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  const int num_groups = problem.scan.num_heads / problem.scan.heads_per_group;
  stream.launch(chunk_gradients<kHeadDim, kState>,
                dim3(static_cast<unsigned>(num_groups), static_cast<unsigned>(problem.scan.num_chunks)),
                kThreads<kHeadDim>, kSharedBytes, problem, gradients);
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
  OpStream& stream = context.stream();
  make_chunk_states(problem, args.head_dim, args.state_size, stream);
  if (args.head_dim == 32) {
    args.state_size == 64 ? launch<32, 64>(problem, gradients, stream)
                          : launch<32, 128>(problem, gradients, stream);
  } else {
    args.state_size == 64 ? launch<64, 64>(problem, gradients, stream)
                          : launch<64, 128>(problem, gradients, stream);
  }
  add_parameter_gradients(args, problem.scan, stream);
}

}  // namespace nemoforge::ops
