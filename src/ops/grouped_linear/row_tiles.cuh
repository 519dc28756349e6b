// What the kernels of the routed experts for many rows share: a block's tile of rows, the copies of its
// panels into shared memory, and where its sums go.
#pragma once

#include <cstdint>

#include "ops/cuda_elements.cuh"
#include "ops/tensor_core.cuh"

namespace nemoforge::ops {

constexpr int kTileRows = 128;
constexpr int kPanel = 64;

struct RowTile {
  int group = -1;  // none
  int first_row = 0;
  int num_rows = 0;
};

// The tile_idx-th tile of rows, found by one warp: each lane takes a run of groups, the lanes' numbers of
// tiles are summed up to each lane, and the lane whose run holds the tile names it.
__device__ inline RowTile find_row_tile(const int32_t* offsets, int num_groups, int tile_idx, int lane) {
  const int groups_each = (num_groups + 31) / 32;
  const int first_group = lane * groups_each;
  const int end_group = min(first_group + groups_each, num_groups);
  int num_tiles = 0;
  for (int group = first_group; group < end_group; ++group) {
    num_tiles += (offsets[group + 1] - offsets[group] + kTileRows - 1) / kTileRows;
  }
  int end_tile = num_tiles;  // tiles up to and with this lane's
  for (int distance = 1; distance < 32; distance *= 2) {
    const int before = __shfl_up_sync(0xffffffffu, end_tile, distance);
    if (lane >= distance) end_tile += before;
  }
  RowTile tile;
  int tile_in_run = tile_idx - (end_tile - num_tiles);
  if (tile_in_run >= 0 && tile_in_run < num_tiles) {
    for (int group = first_group; group < end_group; ++group) {
      const int rows = offsets[group + 1] - offsets[group];
      const int tiles = (rows + kTileRows - 1) / kTileRows;
      if (tile_in_run < tiles) {
        tile = {group, offsets[group] + tile_in_run * kTileRows,
                min(rows - tile_in_run * kTileRows, kTileRows)};
        break;
      }
      tile_in_run -= tiles;
    }
  }
  const unsigned found = __ballot_sync(0xffffffffu, tile.group >= 0);
  if (found == 0) return {};
  const int source = __ffs(static_cast<int>(found)) - 1;
  return {__shfl_sync(0xffffffffu, tile.group, source), __shfl_sync(0xffffffffu, tile.first_row, source),
          __shfl_sync(0xffffffffu, tile.num_rows, source)};
}

struct Operand {
  const __nv_bfloat16* first;  // of the tile's first row
  int64_t stride;
  int num_rows;  // of the tile that exist
};

// Starts the copy of inputs [k, k + kPanel) of kRows rows by kBlock threads; what does not exist is zero.
template <int kRows, int kBlock>
__device__ void load_panel(const SharedTile<kPanel>& tile, const Operand& operand, int k, int in_features) {
  constexpr int kPieces = kPanel / kPieceElements;
#pragma unroll
  for (int i = 0; i < kRows * kPieces / kBlock; ++i) {
    const int row = static_cast<int>(threadIdx.x) / kPieces + i * (kBlock / kPieces);
    const int piece = static_cast<int>(threadIdx.x) % kPieces;
    const int column = k + piece * kPieceElements;
    const bool valid = row < operand.num_rows && column < in_features;
    copy_piece(tile.piece(row, piece), valid ? operand.first + row * operand.stride + column : operand.first,
               valid, true);
  }
}

// Where a tile's results go: rows and columns from num_rows and num_columns on do not exist.
template <typename OutT>
struct Target {
  OutT* first;
  int64_t stride;
  int num_rows;
  int num_columns;
  bool paired;  // pairs of columns are aligned
};

template <typename OutT>
__device__ Target<OutT> target_of(OutT* out, int64_t stride, const RowTile& tile, int first_column,
                                  int out_features) {
  OutT* first = out + tile.first_row * stride + first_column;
  const bool paired = stride % 2 == 0 && reinterpret_cast<uintptr_t>(first) % (2 * sizeof(OutT)) == 0;
  return {first, stride, tile.num_rows, out_features - first_column, paired};
}

// Sums of 16 rows from `row` on, of kBlocks blocks of 8 columns from `column` on. kAdds: to what is there.
template <bool kAdds, int kBlocks, typename OutT>
__device__ void store_rows(const float (&sums)[kBlocks][4], const Target<OutT>& target, int first_row,
                           int first_column, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + half * 8 + lane / 4;
    if (row >= target.num_rows) continue;
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
      const int column = first_column + j * 8 + lane % 4 * 2;
      OutT* out = target.first + row * target.stride + column;
      float first = sums[j][half * 2];
      float second = sums[j][half * 2 + 1];
      if (column + 1 < target.num_columns) {
        if constexpr (kAdds) {
          first += to_float(out[0]);
          second += to_float(out[1]);
        }
        store_pair(out, first, second, target.paired);
      } else if (column < target.num_columns) {
        if constexpr (kAdds) first += to_float(*out);
        *out = from_float<OutT>(first);
      }
    }
  }
}

}  // namespace nemoforge::ops
