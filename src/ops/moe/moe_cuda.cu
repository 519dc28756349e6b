// Moving rows to their experts and back. The sort is a counting sort, stable and without atomics on order, so
// that it is deterministic. Few pairs (decode): one block does it all. Many: tiles of kSortThreads pairs are
// counted, the counts of all tiles are summed, and each tile places its pairs.
#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/moe/moe.h"

namespace nemoforge::ops {
namespace {

constexpr int kSortThreads =
    1024;  // one thread an expert: num_experts <= kSortThreads (checked before launch)
constexpr int kMaxPairsOfOneBlock = 512;  // beyond, three kernels are quicker than one block
constexpr int kCopyThreads = 256;
constexpr int kMaxPairsOfFew = 64;  // up to so many are sorted by every block that copies one
static_assert(kMaxPairsOfFew <= kCopyThreads);
static_assert(kCudaShapeLimits.num_experts <= kSortThreads);
constexpr int kExpertsAtOnce = 8;

// Counting sort of the pairs by expert, stable in token order. Pairs pass through shared memory in tiles;
// thread e, which owns expert e, finds its pairs by reading the tile: num_pairs broadcast reads in all,
// without atomics, so the order is fixed.
__global__ void sort_by_expert(const int32_t* expert_ids, int num_pairs, int top_k, int num_experts,
                               int32_t* offsets, int32_t* row_tokens, int32_t* row_of) {
  await_previous_kernel();
  __shared__ int32_t tile[kSortThreads];
  __shared__ int32_t counts[kSortThreads + 1];
  const int thread = static_cast<int>(threadIdx.x);
  int count = 0;
  for (int first = 0; first < num_pairs; first += kSortThreads) {
    __syncthreads();  // the previous tile has been read
    if (first + thread < num_pairs) tile[thread] = expert_ids[first + thread];
    __syncthreads();  // the tile is written
    const int size = min(kSortThreads, num_pairs - first);
    for (int i = 0; i < size; ++i) count += tile[i] == thread ? 1 : 0;
  }
  counts[thread + 1] = count;
  if (thread == 0) counts[0] = 0;
  __syncthreads();  // every count is written
  // Inclusive scan (Hillis-Steele) over the experts' counts.
  for (int distance = 1; distance <= num_experts; distance *= 2) {
    const int add = thread + 1 > distance ? counts[thread + 1 - distance] : 0;
    __syncthreads();  // all have read before any writes
    counts[thread + 1] += add;
    __syncthreads();  // all have written before any reads again
  }
  if (thread <= num_experts) offsets[thread] = counts[thread];
  if (thread == 0 && num_experts == kSortThreads) offsets[num_experts] = counts[num_experts];
  int next = counts[thread];
  for (int first = 0; first < num_pairs; first += kSortThreads) {
    __syncthreads();  // the previous tile has been read
    if (first + thread < num_pairs) tile[thread] = expert_ids[first + thread];
    __syncthreads();  // the tile is written
    const int size = min(kSortThreads, num_pairs - first);
    for (int i = 0; i < size; ++i) {
      if (tile[i] != thread) continue;
      row_tokens[next] = (first + i) / top_k;
      row_of[first + i] = next;
      ++next;
    }
  }
}

// Sort and copy in one kernel, for so few pairs that every block can sort them all by itself: a pair's place
// is the number of pairs before it. One block a sorted row; the first also writes the tables.
template <int kPiece, typename T>
__global__ void dispatch_few(const int32_t* expert_ids, int num_pairs, int top_k, int num_experts, const T* x,
                             int64_t x_stride, int hidden_size, int32_t* offsets, int32_t* row_tokens,
                             int32_t* row_of, T* out, int64_t out_stride) {
  await_previous_kernel();
  __shared__ int32_t experts[kMaxPairsOfFew];
  __shared__ int source_pair;
  const int thread = static_cast<int>(threadIdx.x);
  const bool writes_tables = blockIdx.x == 0;
  if (thread < num_pairs) experts[thread] = expert_ids[thread];
  __syncthreads();  // the ids are written
  if (thread < num_pairs) {
    const int expert = experts[thread];
    int row = 0;
    for (int other = 0; other < num_pairs; ++other) {
      row += experts[other] < expert || (experts[other] == expert && other < thread) ? 1 : 0;
    }
    if (row == static_cast<int>(blockIdx.x)) source_pair = thread;
    if (writes_tables) {
      row_tokens[row] = thread / top_k;
      row_of[thread] = row;
    }
  }
  if (writes_tables) {
    for (int expert = thread; expert <= num_experts; expert += kCopyThreads) {
      int before = 0;
      for (int pair = 0; pair < num_pairs; ++pair) before += experts[pair] < expert ? 1 : 0;
      offsets[expert] = before;
    }
  }
  __syncthreads();  // source_pair is written
  const T* source = x + static_cast<int64_t>(source_pair / top_k) * x_stride;
  T* target = out + static_cast<int64_t>(blockIdx.x) * out_stride;
#pragma unroll 2
  for (int column = thread * kPiece; column < hidden_size; column += kCopyThreads * kPiece) {
    *reinterpret_cast<Pack<T, kPiece>*>(target + column) =
        *reinterpret_cast<const Pack<T, kPiece>*>(source + column);
  }
}

constexpr int kSortWarps = kSortThreads / 32;

// This thread's pair among the tile's pairs of its expert: `rank` of them come before it in its own warp, and
// of_warp[w][e] (shared memory) becomes how many of expert e warp w has. Ids outside 0 .. num_experts - 1
// take no part.
__device__ int rank_in_warp(int expert, bool inside, int num_experts, uint8_t* of_warp) {
  for (int i = static_cast<int>(threadIdx.x); i < kSortWarps * num_experts; i += kSortThreads) of_warp[i] = 0;
  __syncthreads();  // all are zero before any is counted
  const unsigned peers = __match_any_sync(0xffffffffu, inside ? expert : -1);
  const unsigned lane = threadIdx.x % 32;
  const int rank = __popc(peers & ((1u << lane) - 1));
  if (inside && rank == 0)
    of_warp[threadIdx.x / 32 * num_experts + expert] = static_cast<uint8_t>(__popc(peers));
  __syncthreads();  // every warp has counted
  return rank;
}

// tile_counts [num_tiles, num_experts]: the pairs of each expert in each tile.
__global__ void count_tiles(const int32_t* expert_ids, int num_pairs, int num_experts, int32_t* tile_counts) {
  await_previous_kernel();
  extern __shared__ uint8_t of_warp[];
  const int thread = static_cast<int>(threadIdx.x);
  const int pair = static_cast<int>(blockIdx.x) * kSortThreads + thread;
  const bool inside = pair < num_pairs;
  rank_in_warp(inside ? expert_ids[pair] : 0, inside, num_experts, of_warp);
  if (thread >= num_experts) return;
  int count = 0;
  for (int warp = 0; warp < kSortWarps; ++warp) count += of_warp[warp * num_experts + thread];
  tile_counts[static_cast<int64_t>(blockIdx.x) * num_experts + thread] = count;
}

// Turns the counts into the place of each tile's first pair of each expert, and writes the experts' offsets.
__global__ void sum_tiles(int num_tiles, int num_experts, int32_t* tile_counts, int32_t* offsets) {
  await_previous_kernel();
  __shared__ int32_t ends[kSortThreads];
  const int thread = static_cast<int>(threadIdx.x);
  int count = 0;
  if (thread < num_experts) {
    for (int tile = 0; tile < num_tiles; ++tile) {
      count += tile_counts[static_cast<int64_t>(tile) * num_experts + thread];
    }
  }
  ends[thread] = count;
  __syncthreads();  // every count is written
  for (int distance = 1; distance < num_experts; distance *= 2) {
    const int add = thread >= distance ? ends[thread - distance] : 0;
    __syncthreads();  // all have read before any writes
    ends[thread] += add;
    __syncthreads();  // all have written before any reads again
  }
  if (thread >= num_experts) return;
  if (thread == 0) offsets[0] = 0;
  offsets[thread + 1] = ends[thread];
  int next = ends[thread] - count;
  for (int tile = 0; tile < num_tiles; ++tile) {
    int32_t& place = tile_counts[static_cast<int64_t>(tile) * num_experts + thread];
    const int of_tile = place;
    place = next;
    next += of_tile;
  }
}

__global__ void place_tiles(const int32_t* expert_ids, int num_pairs, int top_k, int num_experts,
                            const int32_t* tile_places, int32_t* row_tokens, int32_t* row_of) {
  await_previous_kernel();
  extern __shared__ uint8_t of_warp[];
  const int pair = static_cast<int>(blockIdx.x) * kSortThreads + static_cast<int>(threadIdx.x);
  const bool inside = pair < num_pairs;
  const int expert = inside ? expert_ids[pair] : 0;
  const int rank = rank_in_warp(expert, inside, num_experts, of_warp);
  if (!inside) return;
  int row = tile_places[static_cast<int64_t>(blockIdx.x) * num_experts + expert] + rank;
  for (int warp = 0; warp < static_cast<int>(threadIdx.x) / 32; ++warp) {
    row += of_warp[warp * num_experts + expert];
  }
  row_tokens[row] = pair / top_k;
  row_of[pair] = row;
}

// One block a row, kPiece elements a thread at a time.
template <int kPiece, typename T>
__global__ void gather_tokens(const T* x, int64_t x_stride, const int32_t* row_tokens, int hidden_size,
                              T* out, int64_t out_stride) {
  await_previous_kernel();
  const T* source = x + static_cast<int64_t>(row_tokens[blockIdx.x]) * x_stride;
  T* target = out + static_cast<int64_t>(blockIdx.x) * out_stride;
#pragma unroll 2
  for (int column = static_cast<int>(threadIdx.x) * kPiece; column < hidden_size;
       column += kCopyThreads * kPiece) {
    *reinterpret_cast<Pack<T, kPiece>*>(target + column) =
        *reinterpret_cast<const Pack<T, kPiece>*>(source + column);
  }
}

template <typename InT, typename OutT>
__global__ void combine_experts(const InT* expert_out, int64_t expert_stride, const int32_t* row_of,
                                const float* expert_weights, int top_k, const InT* shared_out,
                                int64_t shared_stride, int hidden_size, OutT* out, int64_t out_stride) {
  await_previous_kernel();
  const int64_t token = blockIdx.x;
  const int column = static_cast<int>(blockIdx.y * kCopyThreads + threadIdx.x);
  if (column >= hidden_size) return;
  float sum = 0;
  for (int first = 0; first < top_k; first += kExpertsAtOnce) {
    // All loads before the first use.
    float values[kExpertsAtOnce];
#pragma unroll
    for (int i = 0; i < kExpertsAtOnce; ++i) {
      const int64_t pair = token * top_k + first + i;
      values[i] = first + i < top_k ? to_float(expert_out[row_of[pair] * expert_stride + column]) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kExpertsAtOnce; ++i) {
      if (first + i < top_k) sum += expert_weights[token * top_k + first + i] * values[i];
    }
  }
  if (shared_out != nullptr) sum += to_float(shared_out[token * shared_stride + column]);
  out[token * out_stride + column] = from_float<OutT>(sum);
}

void launch_dispatch_few(const MoeDispatchArgs& args, OpStream& stream) {
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    constexpr int kWide = 16 / sizeof(T);
    const bool wide = rows_aligned_to<kWide>(args.x) && rows_aligned_to<kWide>(args.out);
    const int64_t num_pairs = args.expert_ids.numel();
    stream.launch(wide ? dispatch_few<kWide, T> : dispatch_few<1, T>, static_cast<unsigned>(num_pairs),
                  kCopyThreads, 0, args.expert_ids.data<int32_t>(), static_cast<int>(num_pairs),
                  static_cast<int>(args.expert_ids.size(1)), static_cast<int>(args.num_experts),
                  static_cast<const T*>(args.x.raw()), args.x.row_stride(), static_cast<int>(args.x.size(1)),
                  args.offsets.data<int32_t>(), args.row_tokens.data<int32_t>(), args.row_of.data<int32_t>(),
                  static_cast<T*>(args.out.raw()), args.out.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void CudaBackend::moe_dispatch(const MoeDispatchArgs& args) {
  check(args);
  NF_CHECK(args.num_experts <= kSortThreads) << args.num_experts << " experts, at most " << kSortThreads;
  const int64_t num_pairs = args.expert_ids.numel();
  const auto pairs = narrow<int32_t>(num_pairs);
  const auto top_k = static_cast<int>(args.expert_ids.size(1));
  const auto num_experts = static_cast<int>(args.num_experts);
  if (num_pairs > 0 && num_pairs <= kMaxPairsOfFew) return launch_dispatch_few(args, stream_);
  if (num_pairs <= kMaxPairsOfOneBlock) {
    stream_.launch(sort_by_expert, 1, kSortThreads, 0, args.expert_ids.data<int32_t>(), pairs, top_k,
                   num_experts, args.offsets.data<int32_t>(), args.row_tokens.data<int32_t>(),
                   args.row_of.data<int32_t>());
  } else {
    const int num_tiles = ceil_div(pairs, kSortThreads);
    const int64_t shared_bytes = int64_t{kSortWarps} * num_experts;  // at most 32 KiB
    auto* tile_places =
        static_cast<int32_t*>(scratch(ScratchPurpose::kExpertCounts, int64_t{num_tiles} * num_experts * 4));
    const auto grid = static_cast<unsigned>(num_tiles);
    stream_.launch(count_tiles, grid, kSortThreads, shared_bytes, args.expert_ids.data<int32_t>(), pairs,
                   num_experts, tile_places);
    stream_.launch(sum_tiles, 1, kSortThreads, 0, num_tiles, num_experts, tile_places,
                   args.offsets.data<int32_t>());
    stream_.launch(place_tiles, grid, kSortThreads, shared_bytes, args.expert_ids.data<int32_t>(), pairs,
                   top_k, num_experts, tile_places, args.row_tokens.data<int32_t>(),
                   args.row_of.data<int32_t>());
  }
  if (num_pairs == 0) return;
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    constexpr int kWide = 16 / sizeof(T);
    const bool wide = rows_aligned_to<kWide>(args.x) && rows_aligned_to<kWide>(args.out);
    stream_.launch(wide ? gather_tokens<kWide, T> : gather_tokens<1, T>, static_cast<unsigned>(num_pairs),
                   kCopyThreads, 0, static_cast<const T*>(args.x.raw()), args.x.row_stride(),
                   args.row_tokens.data<int32_t>(), static_cast<int>(args.x.size(1)),
                   static_cast<T*>(args.out.raw()), args.out.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

void CudaBackend::moe_combine(const MoeCombineArgs& args) {
  check(args);
  if (args.out.size(0) == 0) return;
  dispatch_activation(args.expert_out.dtype(), [&](auto in_tag) {
    dispatch_activation(args.out.dtype(), [&](auto out_tag) {
      using InT = DeviceType<typename decltype(in_tag)::type>;
      using OutT = DeviceType<typename decltype(out_tag)::type>;
      const dim3 grid(static_cast<unsigned>(args.out.size(0)),
                      static_cast<unsigned>(ceil_div<int64_t>(args.out.size(1), kCopyThreads)));
      stream_.launch(combine_experts<InT, OutT>, grid, kCopyThreads, 0,
                     static_cast<const InT*>(args.expert_out.raw()), args.expert_out.row_stride(),
                     args.row_of.data<int32_t>(), args.expert_weights.data<float>(),
                     static_cast<int>(args.row_of.size(1)), static_cast<const InT*>(args.shared.raw()),
                     args.shared ? args.shared.row_stride() : 0, static_cast<int>(args.out.size(1)),
                     static_cast<OutT*>(args.out.raw()), args.out.row_stride());
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
