// The states around the chunks, in two kernels; the formulas are in ssd_scan_backward_steps.cuh.
//
// 1. chunk_states: a block takes one group of one chunk and walks its heads, with B and C in shared memory
//    and the next head's x and d_y on their way there. It leaves each head's share of the state after the
//    chunk and of the gradient of the state before it, in bf16.
// 2. pass_states: both along the chunks, in fp32 registers.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/ssd_scan/ssd_scan_backward_states_cuda.h"

namespace nemoforge::ops {
namespace {

using Bf = __nv_bfloat16;

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;

template <int kHeadDim, int kState>
struct SharedLayout {
  static constexpr int kRowElements = kChunkRows * kHeadDim;
  static constexpr int kColumnElements = kChunkRows * kState;
  static constexpr int kBytes = (2 * kColumnElements + 4 * kRowElements) * static_cast<int>(sizeof(Bf));
  __device__ static SharedTile<kState> b(Bf* shared) { return {shared}; }
  __device__ static SharedTile<kState> c(Bf* shared) { return {shared + kColumnElements}; }
  __device__ static SharedTile<kHeadDim> x(Bf* shared, int buffer) {
    return {shared + 2 * kColumnElements + 2 * buffer * kRowElements};
  }
  __device__ static SharedTile<kHeadDim> d_y(Bf* shared, int buffer) {
    return {x(shared, buffer).data + kRowElements};
  }
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

// By the first four warps for the state, by the others for the gradient.
template <int kHeadDim, int kState>
__device__ void store_shares(const ProductProblem& problem, Bf* shared, int buffer, const ChunkSteps& steps,
                             int64_t place, int warp, int lane) {
  using Layout = SharedLayout<kHeadDim, kState>;
  constexpr int kChannelTiles = kHeadDim / 16;
  constexpr int kColumns = kState / (4 / kChannelTiles);
  const int channel = warp % 4 % kChannelTiles * 16;
  const int column = warp % 4 / kChannelTiles * kColumns;
  float sums[kColumns / 8][4] = {};
  if (warp < 4) {
    sum_outer_products(sums, Layout::x(shared, buffer), Layout::b(shared), steps.into_state, channel, column,
                       lane);
  } else {
    sum_outer_products(sums, Layout::d_y(shared, buffer), Layout::c(shared), steps.from_start, channel,
                       column, lane);
  }
  Bf* out = (warp < 4 ? problem.states : problem.gradients) + place * kHeadDim * kState;
#pragma unroll
  for (int block = 0; block < kColumns / 8; ++block) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      store_pair(out + (channel + lane / 4 + half * 8) * kState + column + block * 8 + lane % 4 * 2,
                 sums[block][2 * half], sums[block][2 * half + 1], true);
    }
  }
}

template <int kHeadDim, int kState>
__global__ void __launch_bounds__(kThreads, 2) chunk_states(ProductProblem problem) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ ChunkDocuments documents;
  __shared__ ChunkSteps steps_of[kHeadsAtOnce];
  using Layout = SharedLayout<kHeadDim, kState>;
  await_previous_kernel();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const ScanGradientProblem& scan = problem.scan;
  const int group = static_cast<int>(blockIdx.x);
  const int chunk = static_cast<int>(blockIdx.y);
  const int first_row = chunk * kChunkRows;
  const int num_rows = scan.documents.num_rows;
  const int first_head = group * scan.heads_per_group;
  const int end_head = first_head + scan.heads_per_group;
  auto* elements = reinterpret_cast<Bf*>(shared);
  const auto load_head = [&](int head) {
    const int buffer = (head - first_head) % 2;
    load_rows<kChunkRows, kThreads>(Layout::x(elements, buffer), problem.x, first_row, num_rows,
                                    head * kHeadDim);
    load_rows<kChunkRows, kThreads>(Layout::d_y(elements, buffer), problem.d_y, first_row, num_rows,
                                    head * kHeadDim);
    commit_copies();
  };
  load_rows<kChunkRows, kThreads>(Layout::b(elements), problem.b, first_row, num_rows, group * kState);
  load_rows<kChunkRows, kThreads>(Layout::c(elements), problem.c, first_row, num_rows, group * kState);
  load_head(first_head);
  find_chunk_documents(scan.documents, first_row, documents);
  for (int head = first_head; head < end_head; ++head) {
    const int64_t place = static_cast<int64_t>(chunk) * scan.num_heads + head;
    const int index = (head - first_head) % kHeadsAtOnce;
    if (index == 0) {
      __syncthreads();  // the documents are known, and nobody reads the last heads' steps any more
      if (head + warp < end_head) {
        make_steps(scan, documents, first_row, head + warp, lane, steps_of[warp]);
        if (lane == 0) problem.decays[place + warp] = steps_of[warp].decay;
      }
    }
    wait_for_copies<0>();
    __syncthreads();  // rows and steps are there for all, and nobody reads the other buffer any more
    if (head + 1 < end_head) load_head(head + 1);
    store_shares<kHeadDim, kState>(problem, elements, (head - first_head) % 2, steps_of[index], place, warp,
                                   lane);
  }
}

template <int kHeadDim, int kState>
void launch(const ProductProblem& problem, OpStream& stream) {
  static_assert(kWarps == kHeadsAtOnce);
  constexpr int kSharedBytes = SharedLayout<kHeadDim, kState>::kBytes;
  const ScanGradientProblem& scan = problem.scan;
  CUDA_CHECK(cudaFuncSetAttribute(chunk_states<kHeadDim, kState>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kSharedBytes));
  stream.launch(chunk_states<kHeadDim, kState>,
                dim3(static_cast<unsigned>(scan.num_heads / scan.heads_per_group),
                     static_cast<unsigned>(scan.num_chunks)),
                kThreads, kSharedBytes, problem);
  constexpr int kElements = 8;
  constexpr int kPassThreads = 128;
  constexpr int kStateNumel = kHeadDim * kState;
  stream.launch(pass_states<Bf, kElements>,
                dim3(static_cast<unsigned>(
                         ceil_div<int64_t>(int64_t{scan.num_heads} * kStateNumel, kPassThreads * kElements)),
                     2),
                kPassThreads, 0, problem.states, problem.gradients, problem.decays, scan.num_chunks,
                scan.num_heads, kStateNumel);
}

}  // namespace

void make_chunk_states(const ProductProblem& problem, int64_t head_dim, int64_t state_size,
                       OpStream& stream) {
  if (head_dim == 32) {
    state_size == 64 ? launch<32, 64>(problem, stream) : launch<32, 128>(problem, stream);
  } else {
    state_size == 64 ? launch<64, 64>(problem, stream) : launch<64, 128>(problem, stream);
  }
}

}  // namespace nemoforge::ops
