// Products with matrices of some 16 rows or columns, for which the bytes of the rows are the floor: on tensor
// cores where rows are of bf16 and the pairs of f32 with 16 components (lora_products_cuda.cuh), else in fp32
// on the ordinary cores, which took 4 times as long for x A^T and 2.5 times for the addition to out (24,576
// rows of 2,688 features, H100). A block has a tile of rows of one run, which it finds in the table.
#include <algorithm>

#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/lora/lora_products_cuda.cuh"
#include "ops/lora/lora_rows_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kChunk = kLoraRankChunk;

constexpr int kShrinkRowsOfWarp = 8;
constexpr int kShrinkRows = kWarps * kShrinkRowsOfWarp;
constexpr int kExpandRows = 64;
constexpr int kExpandRowsAtOnce = 4;
constexpr int kGradientRows = 256;

struct RunTile {
  int run = -1;  // none
  int first_row = 0;
  int end_row = 0;
  int tile_in_run = 0;
  int num_tiles_of_run = 0;
};

__device__ int2 rows_of(const LoraTable& table, int run) {
  if (table.offsets != nullptr) return make_int2(table.offsets[run], table.offsets[run + 1]);
  return make_int2(table.runs[run].begin, table.runs[run].end);
}

// The tile_idx-th tile of kRows rows, found by a warp: each lane takes some runs, the lanes' numbers of tiles
// are summed up to each lane, and the lane whose runs hold the tile names it.
template <int kRows>
__device__ RunTile find_tile(const LoraTable& table, int tile_idx) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int runs_each = (table.num_runs + 31) / 32;
  const int first_run = min(lane * runs_each, table.num_runs);
  const int end_run = min(first_run + runs_each, table.num_runs);
  int num_tiles = 0;
  for (int run = first_run; run < end_run; ++run) {
    const int2 rows = rows_of(table, run);
    num_tiles += (rows.y - rows.x + kRows - 1) / kRows;
  }
  int end_tile = num_tiles;
  for (int distance = 1; distance < 32; distance *= 2) {
    const int before = __shfl_up_sync(0xffffffffu, end_tile, distance);
    if (lane >= distance) end_tile += before;
  }
  RunTile tile;
  int in_runs = tile_idx - (end_tile - num_tiles);
  if (in_runs >= 0 && in_runs < num_tiles) {
    for (int run = first_run; run < end_run; ++run) {
      const int2 rows = rows_of(table, run);
      const int tiles = (rows.y - rows.x + kRows - 1) / kRows;
      if (in_runs < tiles) {
        const int first = rows.x + in_runs * kRows;
        tile = {run, first, min(first + kRows, rows.y), in_runs, tiles};
        break;
      }
      in_runs -= tiles;
    }
  }
  const unsigned found = __ballot_sync(0xffffffffu, tile.run >= 0);
  if (found == 0) return {};
  const int source = __ffs(static_cast<int>(found)) - 1;
  return {__shfl_sync(0xffffffffu, tile.run, source), __shfl_sync(0xffffffffu, tile.first_row, source),
          __shfl_sync(0xffffffffu, tile.end_row, source), __shfl_sync(0xffffffffu, tile.tile_in_run, source),
          __shfl_sync(0xffffffffu, tile.num_tiles_of_run, source)};
}

// The factor's components first .. first + kChunk - 1 at one feature; zeros beyond the rank.
template <LoraFactor kFactor, typename WeightT>
__device__ void load_components(const WeightT* weight, int rank, int64_t num_features, int64_t feature,
                                int first, float (&components)[kChunk]) {
  if constexpr (kFactor == LoraFactor::kB && sizeof(WeightT) == 4) {
    if (rank % 4 == 0 && first + kChunk <= rank) {
      const auto* pieces = reinterpret_cast<const float4*>(weight + feature * rank + first);
#pragma unroll
      for (int j = 0; j < kChunk / 4; ++j) {
        const float4 piece = pieces[j];
        components[4 * j] = piece.x;
        components[4 * j + 1] = piece.y;
        components[4 * j + 2] = piece.z;
        components[4 * j + 3] = piece.w;
      }
      return;
    }
  }
#pragma unroll
  for (int j = 0; j < kChunk; ++j) {
    const int component = first + j;
    const int64_t index =
        kFactor == LoraFactor::kA ? component * num_features + feature : feature * rank + component;
    components[j] = component < rank ? to_float(weight[index]) : 0.0f;
  }
}

// Calls body with the factor's pointer in its own type.
template <LoraFactor kFactor, typename Body>
__device__ void with_weight(const LoraTableRun& run, const Body& body) {
  const void* weight = kFactor == LoraFactor::kA ? run.a : run.b;
  if (kFactor == LoraFactor::kA ? run.a_is_bf16 : run.b_is_bf16) {
    body(static_cast<const __nv_bfloat16*>(weight));
  } else {
    body(static_cast<const float*>(weight));
  }
}

// A warp has 8 rows x 16 components, whose sums its lanes share by features. blockIdx.y: the chunk.
template <LoraFactor kFactor, typename T>
__global__ void __launch_bounds__(kThreads)
    shrink_rows(const __grid_constant__ LoraTable table, const T* rows, int64_t stride, int num_features,
                float* low, int64_t low_stride) {
  const RunTile tile = find_tile<kShrinkRows>(table, static_cast<int>(blockIdx.x));
  const int first_component = static_cast<int>(blockIdx.y) * kChunk;
  if (tile.run < 0) return;
  const LoraTableRun& run = table.runs[tile.run];
  if (first_component >= run.rank) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_row = tile.first_row + static_cast<int>(threadIdx.x) / 32 * kShrinkRowsOfWarp;
  if (first_row >= tile.end_row) return;
  float sums[kShrinkRowsOfWarp * kChunk] = {};
  with_weight<kFactor>(run, [&](const auto* weight) {
    const T* x[kShrinkRowsOfWarp];
#pragma unroll
    for (int row = 0; row < kShrinkRowsOfWarp; ++row) {
      x[row] = rows + min(first_row + row, tile.end_row - 1) * stride;  // its result is not stored
    }
    for (int feature = lane; feature < num_features; feature += 32) {
      float components[kChunk];
      float values[kShrinkRowsOfWarp];
#pragma unroll
      for (int row = 0; row < kShrinkRowsOfWarp; ++row) values[row] = to_float(x[row][feature]);
      load_components<kFactor>(weight, run.rank, num_features, feature, first_component, components);
#pragma unroll
      for (int row = 0; row < kShrinkRowsOfWarp; ++row) {
#pragma unroll
        for (int j = 0; j < kChunk; ++j) sums[row * kChunk + j] += values[row] * components[j];
      }
    }
  });
  // Each step halves the sums of a lane and doubles the lanes whose parts they hold: in the end lane l has
  // sums 4 l .. 4 l + 3.
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const int half = offset * (kShrinkRowsOfWarp * kChunk / 32);
    const bool upper = (lane & offset) != 0;
#pragma unroll
    for (int i = 0; i < kShrinkRowsOfWarp * kChunk / 2; ++i) {
      if (i >= half) break;
      const float sent = upper ? sums[i] : sums[i + half];
      const float kept = upper ? sums[i + half] : sums[i];
      sums[i] = kept + __shfl_xor_sync(0xffffffffu, sent, offset);
    }
  }
  const int row = first_row + lane / 4;
  if (row >= tile.end_row) return;
  float* target = low + row * low_stride + first_component + lane % 4 * 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) target[i] = run.scale * sums[i];
}

constexpr int kProductShrinkRows = 16;

// A block has 16 rows; its warps share the features, and their sums are added in order.
template <LoraFactor kFactor>
__global__ void __launch_bounds__(kThreads)
    shrink_rows_by_products(const __grid_constant__ LoraTable table, const __nv_bfloat16* rows,
                            int64_t stride, int num_features, float* low, int64_t low_stride) {
  __shared__ float partial[kWarps][kProductShrinkRows][kChunk];
  const RunTile tile = find_tile<kProductShrinkRows>(table, static_cast<int>(blockIdx.x));
  if (tile.run < 0) return;
  const LoraTableRun& run = table.runs[tile.run];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  // What rows beyond the last give is not stored.
  const auto row_at = [&](int row) { return rows + min(tile.first_row + row, tile.end_row - 1) * stride; };
  float sums[2][4] = {};
  shrink_by_products<kFactor>(row_at(lane / 4), row_at(lane / 4 + 8),
                              static_cast<const float*>(kFactor == LoraFactor::kA ? run.a : run.b),
                              num_features, warp, kWarps, lane, sums);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      partial[warp][lane / 4 + i / 2 * 8][half * 8 + lane % 4 * 2 + i % 2] = sums[half][i];
    }
  }
  __syncthreads();  // every warp's sums are written
  for (int i = static_cast<int>(threadIdx.x); i < kProductShrinkRows * kChunk; i += kThreads) {
    const int row = tile.first_row + i / kChunk;
    if (row >= tile.end_row) continue;
    float sum = 0;
#pragma unroll
    for (int other = 0; other < kWarps; ++other) sum += partial[other][i / kChunk][i % kChunk];
    low[row * low_stride + i % kChunk] = run.scale * sum;
  }
}

// A warp has 32 columns of a tile's rows. In n-tile t, column n is the tile's 8 (n / 2) + 2 t + n % 2, so
// that a lane has eight columns side by side.
template <LoraFactor kFactor, typename T>
__global__ void __launch_bounds__(kThreads)
    expand_rows_by_products(const __grid_constant__ LoraTable table, const float* low, int64_t low_stride,
                            int num_features, T* out, int64_t out_stride) {
  constexpr int kRowTiles = kExpandRows / 16;
  const RunTile tile = find_tile<kExpandRows>(table, static_cast<int>(blockIdx.x));
  if (tile.run < 0) return;
  const LoraTableRun& run = table.runs[tile.run];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_column =
      (static_cast<int>(blockIdx.y) * kWarps + static_cast<int>(threadIdx.x) / 32) * kStepFeatures;
  if (first_column >= num_features) return;
  const auto* weight = static_cast<const float*>(kFactor == LoraFactor::kA ? run.a : run.b);
  ColumnFragments w[4];
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    const int column = first_column + lane / 4 / 2 * kLaneFeatures + 2 * t + lane / 4 % 2;
    w[t] = load_column<kFactor>(weight, num_features, column, lane);
  }
  const int column = first_column + lane % 4 * kLaneFeatures;
  const bool inside = column < num_features;
  const auto target_of_row = [&](int row) {
    return reinterpret_cast<Pack<T, kLaneFeatures>*>(out + row * out_stride + column);
  };
#pragma unroll
  for (int row_tile = 0; row_tile < kRowTiles; ++row_tile) {
    const int upper = tile.first_row + row_tile * 16 + lane / 4;
    const int lower = upper + 8;
    if (tile.first_row + row_tile * 16 >= tile.end_row) break;
    Pack<T, kLaneFeatures> results[2] = {};
    if (inside && upper < tile.end_row) results[0] = *target_of_row(upper);
    if (inside && lower < tile.end_row) results[1] = *target_of_row(lower);
    const LowFragments rows =
        load_low_fragments(low, low_stride, tile.first_row + row_tile * 16, tile.end_row, lane);
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      float sums[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i] = to_float(results[i / 2].values[2 * t + i % 2]);
      multiply_low(sums, rows, w[t]);
#pragma unroll
      for (int i = 0; i < 4; ++i) results[i / 2].values[2 * t + i % 2] = from_float<T>(sums[i]);
    }
    if (inside && upper < tile.end_row) *target_of_row(upper) = results[0];
    if (inside && lower < tile.end_row) *target_of_row(lower) = results[1];
  }
}

// The tile's rows of `low`, components first .. first + kChunk - 1 (zeros beyond the rank), to shared memory.
template <int kRows>
__device__ void load_low(const RunTile& tile, int rank, const float* low, int64_t low_stride, int first,
                         float (&target)[kRows][kChunk]) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kChunk; i += kThreads) {
    const int row = tile.first_row + i / kChunk;
    const int component = first + i % kChunk;
    target[i / kChunk][i % kChunk] =
        row < tile.end_row && component < rank ? low[row * low_stride + component] : 0.0f;
  }
}

// A thread has kPiece columns of a tile's rows, four rows at a time.
template <LoraFactor kFactor, int kPiece, typename T>
__global__ void __launch_bounds__(kThreads)
    expand_rows(const __grid_constant__ LoraTable table, const float* low, int64_t low_stride,
                int num_features, T* out, int64_t out_stride) {
  __shared__ __align__(16) float shared_low[kExpandRows][kChunk];
  const RunTile tile = find_tile<kExpandRows>(table, static_cast<int>(blockIdx.x));
  if (tile.run < 0) return;
  const LoraTableRun& run = table.runs[tile.run];
  const int column = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kPiece;
  const bool inside = column < num_features;
  with_weight<kFactor>(run, [&](const auto* weight) {
    float components[kPiece][kChunk];
    const bool one_chunk = run.rank <= kChunk;
    const auto load_chunk = [&](int first) {
#pragma unroll
      for (int i = 0; i < kPiece; ++i) {
        if (inside)
          load_components<kFactor>(weight, run.rank, num_features, column + i, first, components[i]);
      }
    };
    if (one_chunk) {
      load_low(tile, run.rank, low, low_stride, 0, shared_low);
      load_chunk(0);
      __syncthreads();  // the rows are there
    }
    for (int row = tile.first_row; row < tile.end_row; row += kExpandRowsAtOnce) {
      float sums[kExpandRowsAtOnce][kPiece] = {};
      for (int first = 0; first < run.rank; first += kChunk) {
        if (!one_chunk) {
          __syncthreads();  // the previous chunk has been read
          load_low(tile, run.rank, low, low_stride, first, shared_low);
          load_chunk(first);
          __syncthreads();  // the rows are there
        }
#pragma unroll
        for (int r = 0; r < kExpandRowsAtOnce; ++r) {
          const auto* values = reinterpret_cast<const float4*>(shared_low[row - tile.first_row + r]);
#pragma unroll
          for (int j = 0; j < kChunk / 4; ++j) {
            const float4 value = values[j];
#pragma unroll
            for (int i = 0; i < kPiece; ++i) {
              sums[r][i] += value.x * components[i][4 * j] + value.y * components[i][4 * j + 1] +
                            value.z * components[i][4 * j + 2] + value.w * components[i][4 * j + 3];
            }
          }
        }
      }
      if (!inside) continue;
#pragma unroll
      for (int r = 0; r < kExpandRowsAtOnce; ++r) {
        if (row + r >= tile.end_row) break;
        auto* target = reinterpret_cast<Pack<T, kPiece>*>(out + (row + r) * out_stride + column);
        Pack<T, kPiece> result = *target;
#pragma unroll
        for (int i = 0; i < kPiece; ++i) {
          result.values[i] = from_float<T>(to_float(result.values[i]) + sums[r][i]);
        }
        *target = result;
      }
    }
  });
}

__device__ float& gradient_element(LoraFactor factor, const LoraTableRun& run, int num_features, int feature,
                                   int component) {
  return factor == LoraFactor::kA ? run.d_a[static_cast<int64_t>(component) * num_features + feature]
                                  : run.d_b[static_cast<int64_t>(feature) * run.rank + component];
}

// A thread has kPiece columns x 16 components (blockIdx.z: the chunk) of a tile's rows. The sums of a run of
// one tile go to the gradient, others to partial [tile, max_rank, num_features].
template <LoraFactor kFactor, int kPiece, typename T>
__global__ void __launch_bounds__(kThreads)
    gradient_of_tiles(const __grid_constant__ LoraTable table, const float* low, int64_t low_stride,
                      const T* rows, int64_t stride, int num_features, float* partial) {
  constexpr int kRowsAtOnce = 32;
  __shared__ __align__(16) float shared_low[kRowsAtOnce][kChunk];
  const RunTile tile = find_tile<kGradientRows>(table, static_cast<int>(blockIdx.x));
  if (tile.run < 0) return;
  const LoraTableRun& run = table.runs[tile.run];
  const int first_component = static_cast<int>(blockIdx.z) * kChunk;
  if (first_component >= run.rank) return;
  const int column = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kPiece;
  const bool inside = column < num_features;
  float sums[kPiece][kChunk] = {};
  for (int first = tile.first_row; first < tile.end_row; first += kRowsAtOnce) {
    const int count = min(kRowsAtOnce, tile.end_row - first);
    __syncthreads();  // the previous rows have been read
    load_low(RunTile{tile.run, first, first + count, 0, 0}, run.rank, low, low_stride, first_component,
             shared_low);
    __syncthreads();  // the rows are there
    if (!inside) continue;
#pragma unroll 4
    for (int row = 0; row < count; ++row) {
      const auto piece = *reinterpret_cast<const Pack<T, kPiece>*>(rows + (first + row) * stride + column);
      const auto* values = reinterpret_cast<const float4*>(shared_low[row]);
#pragma unroll
      for (int j = 0; j < kChunk / 4; ++j) {
        const float4 value = values[j];
#pragma unroll
        for (int i = 0; i < kPiece; ++i) {
          const float x = to_float(piece.values[i]);
          sums[i][4 * j] += value.x * x;
          sums[i][4 * j + 1] += value.y * x;
          sums[i][4 * j + 2] += value.z * x;
          sums[i][4 * j + 3] += value.w * x;
        }
      }
    }
  }
  if (!inside) return;
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
#pragma unroll
    for (int j = 0; j < kChunk; ++j) {
      const int component = first_component + j;
      if (component >= run.rank) continue;
      if (tile.num_tiles_of_run == 1) {
        gradient_element(kFactor, run, num_features, column + i, component) += sums[i][j];
      } else {
        partial[(static_cast<int64_t>(blockIdx.x) * table.max_rank + component) * num_features + column + i] =
            sums[i][j];
      }
    }
  }
}

// Likewise by products: a warp has 64 columns x 16 components.
template <LoraFactor kFactor>
__global__ void __launch_bounds__(kThreads)
    gradient_of_tiles_by_products(const __grid_constant__ LoraTable table, const float* low,
                                  int64_t low_stride, const __nv_bfloat16* rows, int64_t stride,
                                  int num_features, float* partial) {
  const RunTile tile = find_tile<kGradientRows>(table, static_cast<int>(blockIdx.x));
  if (tile.run < 0) return;
  const LoraTableRun& run = table.runs[tile.run];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_column =
      (static_cast<int>(blockIdx.y) * kWarps + static_cast<int>(threadIdx.x) / 32) * kGradientColumns;
  if (first_column >= num_features) return;
  float sums[8][4] = {};
  const bool inside = first_column + lane / 4 * 8 < num_features;
  gradient_by_products(low, low_stride, rows + first_column, stride, inside, tile.first_row, tile.end_row,
                       lane, sums);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int component = lane / 4 + i / 2 * 8;
    const int first = first_column + lane % 4 * 16 + i % 2 * 8;  // of eight columns, a tile each
    if (first >= num_features) continue;
#pragma unroll
    for (int t = 0; t < 8; ++t) {
      if (tile.num_tiles_of_run == 1) {
        gradient_element(kFactor, run, num_features, first + t, component) += sums[t][i];
      } else {
        partial[(static_cast<int64_t>(blockIdx.x) * table.max_rank + component) * num_features + first + t] =
            sums[t][i];
      }
    }
  }
}

// Block (features, component, run): adds up the parts of a run of several tiles.
template <LoraFactor kFactor>
__global__ void add_gradient_tiles(const __grid_constant__ LoraTable table, int num_features,
                                   const float* partial) {
  const int run_idx = static_cast<int>(blockIdx.z);
  const int component = static_cast<int>(blockIdx.y);
  const LoraTableRun& run = table.runs[run_idx];
  const int2 rows = rows_of(table, run_idx);
  const int num_tiles = (rows.y - rows.x + kGradientRows - 1) / kGradientRows;
  if (num_tiles <= 1 || component >= run.rank) return;
  __shared__ int first_tile;
  if (threadIdx.x < 32) {
    int before = 0;
    for (int other = static_cast<int>(threadIdx.x); other < run_idx; other += 32) {
      const int2 others = rows_of(table, other);
      before += (others.y - others.x + kGradientRows - 1) / kGradientRows;
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) before += __shfl_xor_sync(0xffffffffu, before, offset);
    if (threadIdx.x == 0) first_tile = before;
  }
  __syncthreads();  // the first tile is known
  const int feature = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (feature >= num_features) return;
  float sum = 0;
  for (int tile = first_tile; tile < first_tile + num_tiles; ++tile) {
    sum += partial[(static_cast<int64_t>(tile) * table.max_rank + component) * num_features + feature];
  }
  gradient_element(kFactor, run, num_features, feature, component) += sum;
}

unsigned max_tiles(const LoraTable& table, int64_t rows_of_tile) {
  return static_cast<unsigned>(table.max_rows / rows_of_tile + table.num_runs);
}

unsigned rank_chunks(const LoraTable& table) {
  return static_cast<unsigned>(ceil_div(table.max_rank, kChunk));
}

// Whether every pair has 16 components of f32 for the factor, and rows are whole 16-byte pieces.
bool products_apply(const LoraTable& table, LoraFactor factor, const ConstTensorView& rows) {
  if (!rows_aligned_to<kLaneFeatures>(rows)) return false;
  for (int i = 0; i < table.num_runs; ++i) {
    const LoraTableRun& run = table.runs[i];
    const void* weight = factor == LoraFactor::kA ? run.a : run.b;
    const bool is_bf16 = factor == LoraFactor::kA ? run.a_is_bf16 : run.b_is_bf16;
    if (run.rank != kLoraRankChunk || is_bf16 || reinterpret_cast<uintptr_t>(weight) % 16 != 0) return false;
  }
  return true;
}

// Calls launch with the factor as a template argument.
template <typename Launch>
void dispatch_factor(LoraFactor factor, const Launch& launch) {
  if (factor == LoraFactor::kA) {
    launch(std::integral_constant<LoraFactor, LoraFactor::kA>{});
  } else {
    launch(std::integral_constant<LoraFactor, LoraFactor::kB>{});
  }
}

}  // namespace

std::vector<LoraTable> lora_tables(std::span<const LoraRun> runs, const ConstTensorView& offsets,
                                   int64_t num_rows) {
  std::vector<LoraTable> tables;
  for (size_t first = 0; first < runs.size(); first += kMaxLoraTableRuns) {
    LoraTable& table = tables.emplace_back();
    const size_t count = std::min<size_t>(kMaxLoraTableRuns, runs.size() - first);
    for (size_t i = 0; i < count; ++i) {
      const LoraRun& run = runs[first + i];
      const auto rank = static_cast<int>(run.weight->a.size(0));
      table.runs[i] = {.a = run.weight->a.raw(),
                       .b = run.weight->b.raw(),
                       .begin = narrow<int32_t>(run.begin),
                       .end = narrow<int32_t>(run.end),
                       .scale = run.weight->scale,
                       .rank = rank,
                       .a_is_bf16 = run.weight->a.dtype() == DType::kBF16,
                       .b_is_bf16 = run.weight->b.dtype() == DType::kBF16};
      table.max_rank = std::max(table.max_rank, rank);
      if (!offsets) table.max_rows += run.end - run.begin;
    }
    table.num_runs = static_cast<int>(count);
    if (offsets) {
      table.offsets = offsets.data<int32_t>() + first;
      table.max_rows = num_rows;
    }
  }
  return tables;
}

int64_t lora_low_stride(int64_t max_rank) {
  return round_up<int64_t>(max_rank, kChunk);
}

void lora_shrink(const LoraTable& table, LoraFactor factor, const ConstTensorView& rows, float* low,
                 int64_t low_stride, cudaStream_t stream) {
  if (table.max_rows == 0) return;
  if (rows.dtype() == DType::kBF16 && products_apply(table, factor, rows)) {
    dispatch_factor(factor, [&](auto tag) {
      shrink_rows_by_products<decltype(tag)::value>
          <<<max_tiles(table, kProductShrinkRows), kThreads, 0, stream>>>(
              table, static_cast<const __nv_bfloat16*>(rows.raw()), rows.row_stride(),
              static_cast<int>(rows.size(1)), low, low_stride);
    });
    CUDA_CHECK(cudaGetLastError());
    return;
  }
  const dim3 grid(max_tiles(table, kShrinkRows), rank_chunks(table));
  dispatch_factor(factor, [&](auto tag) {
    dispatch_activation(rows.dtype(), [&](auto type) {
      using T = DeviceType<typename decltype(type)::type>;
      shrink_rows<decltype(tag)::value, T>
          <<<grid, kThreads, 0, stream>>>(table, static_cast<const T*>(rows.raw()), rows.row_stride(),
                                          static_cast<int>(rows.size(1)), low, low_stride);
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

void lora_expand(const LoraTable& table, LoraFactor factor, const float* low, int64_t low_stride, DType dtype,
                 const TensorView& out, cudaStream_t stream) {
  if (table.max_rows == 0) return;
  if (dtype == DType::kBF16 && products_apply(table, factor, out)) {
    const dim3 product_grid(max_tiles(table, kExpandRows),
                            static_cast<unsigned>(ceil_div<int64_t>(out.size(1), kWarps * kStepFeatures)));
    dispatch_factor(factor, [&](auto tag) {
      dispatch_activation(out.dtype(), [&](auto type) {
        using T = DeviceType<typename decltype(type)::type>;
        expand_rows_by_products<decltype(tag)::value, T>
            <<<product_grid, kThreads, 0, stream>>>(table, low, low_stride, static_cast<int>(out.size(1)),
                                                    static_cast<T*>(out.raw()), out.row_stride());
      });
    });
    CUDA_CHECK(cudaGetLastError());
    return;
  }
  constexpr int kWide = 4;
  const bool wide = rows_aligned_to<kWide>(out);
  const dim3 grid(max_tiles(table, kExpandRows),
                  static_cast<unsigned>(ceil_div<int64_t>(out.size(1), kThreads * (wide ? kWide : 1))));
  dispatch_factor(factor, [&](auto tag) {
    dispatch_activation(out.dtype(), [&](auto type) {
      using T = DeviceType<typename decltype(type)::type>;
      constexpr LoraFactor kFactor = decltype(tag)::value;
      const auto kernel = wide ? expand_rows<kFactor, kWide, T> : expand_rows<kFactor, 1, T>;
      kernel<<<grid, kThreads, 0, stream>>>(table, low, low_stride, static_cast<int>(out.size(1)),
                                            static_cast<T*>(out.raw()), out.row_stride());
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

int64_t lora_gradient_bytes(const LoraTable& table, int64_t num_features) {
  return int64_t{max_tiles(table, kGradientRows)} * table.max_rank * num_features * 4;
}

void lora_gradient(const LoraTable& table, LoraFactor factor, const float* low, int64_t low_stride,
                   const ConstTensorView& rows, float* memory, cudaStream_t stream) {
  if (table.max_rows == 0) return;
  constexpr int kWide = 4;
  const bool wide = rows_aligned_to<kWide>(rows);
  const auto num_features = static_cast<int>(rows.size(1));
  const dim3 grid(max_tiles(table, kGradientRows),
                  static_cast<unsigned>(ceil_div(num_features, kThreads * (wide ? kWide : 1))),
                  rank_chunks(table));
  const dim3 sum_grid(static_cast<unsigned>(ceil_div(num_features, kThreads)),
                      static_cast<unsigned>(table.max_rank), static_cast<unsigned>(table.num_runs));
  const bool by_products = rows.dtype() == DType::kBF16 && products_apply(table, factor, rows);
  dispatch_factor(factor, [&](auto tag) {
    constexpr LoraFactor kFactor = decltype(tag)::value;
    if (by_products) {
      const dim3 product_grid(grid.x,
                              static_cast<unsigned>(ceil_div(num_features, kWarps * kGradientColumns)));
      gradient_of_tiles_by_products<kFactor><<<product_grid, kThreads, 0, stream>>>(
          table, low, low_stride, static_cast<const __nv_bfloat16*>(rows.raw()), rows.row_stride(),
          num_features, memory);
    } else {
      dispatch_activation(rows.dtype(), [&](auto type) {
        using T = DeviceType<typename decltype(type)::type>;
        const auto kernel = wide ? gradient_of_tiles<kFactor, kWide, T> : gradient_of_tiles<kFactor, 1, T>;
        kernel<<<grid, kThreads, 0, stream>>>(table, low, low_stride, static_cast<const T*>(rows.raw()),
                                              rows.row_stride(), num_features, memory);
      });
    }
    CUDA_CHECK(cudaGetLastError());
    add_gradient_tiles<kFactor><<<sum_grid, kThreads, 0, stream>>>(table, num_features, memory);
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
