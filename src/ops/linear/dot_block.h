// A block of a row product for one thread, and the loops over its tiles that every instruction set shares.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/integers.h"
#include "tensor/dtype.h"

namespace nemoforge::ops {

struct DotBlock {
  const void* x = nullptr;  // first row
  int64_t x_stride = 0;     // elements
  int64_t num_rows = 0;
  const void* weight = nullptr;  // first output's row; rows are in_features elements apart
  int64_t num_outs = 0;
  int64_t num_following_outs = 0;  // weight rows after these in the same matrix, which may be prefetched
  int64_t in_features = 0;
  const void* bias = nullptr;  // of the first output; may be absent
  DType bias_dtype = DType::kF32;
  void* out = nullptr;  // element (first row, first output)
  int64_t out_stride = 0;
  DType out_dtype = DType::kF32;
  bool accumulate = false;
  float scale = 1;
};

using DotBlockFunction = void (*)(const DotBlock& block);

// The function for these element types on this machine.
[[nodiscard]] DotBlockFunction choose_dot_block(DType x, DType weight);
// The portable SIMD one.
[[nodiscard]] DotBlockFunction choose_dot_block_f32(DType x, DType weight);
// x and weight bf16, by the processor's bf16 dot product (AVX512_BF16); null where it has none.
[[nodiscard]] DotBlockFunction choose_dot_block_bf16();

// Bias, scale and rounding of `count` sums, which belong to outputs first_out, first_out + 1, ... of a row.
using FinishSumsFunction = void (*)(const DotBlock& block, int64_t row, int64_t first_out, int64_t count,
                                    const float* sums);
[[nodiscard]] FinishSumsFunction choose_finish_sums();

// Outputs of a tile: their weight rows are read side by side.
inline constexpr int kTileOuts = 4;
// Outputs whose sums are finished together.
inline constexpr int64_t kFinishOuts = 64;
// A panel's rows of x stay in the second-level cache (1 MB on Zen 4) beside a block of W.
inline constexpr int64_t kPanelBytes = 256 << 10;
inline constexpr int64_t kMaxPanelRows = 96;
// Weights are prefetched a tile ahead, and at least this much. Into the second-level cache: the first is as
// large as the tile and what follows it. One row of bf16 at 2688 and 256 inputs reads at 0.97 and 0.75 of the
// machine's rate, against 0.81 and 0.49 with prefetches into the first level, and 4 rows at 0.75 and 0.86
// against 0.67 and 0.40 (Zen 4, one core, 2026).
inline constexpr int64_t kPrefetchBytes = 8 << 10;
inline void prefetch_weights(const void* from) {
  __builtin_prefetch(from, 0, 2);
}

// What a tile works on: some rows of x and of W, from end to end. (Visiting them in segments that fit the
// first-level cache was slower: the second level feeds the products fast enough.)
template <typename X, typename W>
struct DotTile {
  const X* x;
  int64_t x_stride;
  const W* const* weight_rows;
  int64_t in_features;
  const W* prefetch;  // weights that will be read later, rows in_features apart; null for none
  float* sums;        // [rows, outs], row stride kFinishOuts
};

// Calls Tile::compute<rows, outs>(tile) for all tiles of a block. Outputs beyond the block's last
// repeat it, and are dropped.
template <class Tile>
class DotBlockLoops {
 public:
  using X = typename Tile::X;
  using W = typename Tile::W;

  explicit DotBlockLoops(const DotBlock& block)
      : block_(block),
        finish_sums_(choose_finish_sums()),
        x_(static_cast<const X*>(block.x)),
        weight_(static_cast<const W*>(block.weight)) {}

  void run() const {
    const int64_t row_bytes = std::max<int64_t>(1, block_.in_features * static_cast<int64_t>(sizeof(X)));
    // A whole number of tiles, at least two.
    const int64_t panel_rows =
        std::clamp<int64_t>(kPanelBytes / row_bytes / Tile::kMaxRows, 2, kMaxPanelRows / Tile::kMaxRows) *
        Tile::kMaxRows;
    for (int64_t row = 0; row < block_.num_rows; row += panel_rows) {
      const int64_t num_rows = std::min(panel_rows, block_.num_rows - row);
      const Panel panel = {row, num_rows, x_ + row * block_.x_stride, block_.x_stride};
      if (num_rows > Tile::kMaxRows && block_.x_stride * static_cast<int64_t>(sizeof(X)) % 4096 == 0) {
        run_apart(panel);
      } else {
        run_panel(panel);
      }
    }
  }

 private:
  struct Panel {
    int64_t first_row;
    int64_t num_rows;
    const X* x;
    int64_t x_stride;
  };

  void run_panel(const Panel& panel) const {
    for (int64_t out = 0; out < block_.num_outs; out += kFinishOuts) {
      finish_panel(panel, out, std::min(kFinishOuts, block_.num_outs - out));
    }
  }

  // Rows a multiple of 4 KB apart compete for the same 8 lines of the first-level cache, where a tile needs
  // 10: they are copied apart by a line. At 4096 bf16 inputs 180 instead of 131 GFLOP/s (Zen 4, 2026).
  void run_apart(const Panel& panel) const {
    constexpr auto kLine = static_cast<int64_t>(64 / sizeof(X));
    alignas(64) X copy[kPanelBytes / sizeof(X) + kMaxPanelRows * kLine];
    const int64_t stride = block_.in_features + kLine;
    for (int64_t row = 0; row < panel.num_rows; ++row) {
      std::copy_n(panel.x + row * panel.x_stride, block_.in_features, copy + row * stride);
    }
    Panel apart = panel;
    apart.x = copy;
    apart.x_stride = stride;
    run_panel(apart);
  }

  void finish_panel(const Panel& panel, int64_t first_out, int64_t num_outs) const {
    alignas(64) float sums[kMaxPanelRows * kFinishOuts];
    if (panel.num_rows == 1) {
      // Two tiles at once: one row's sums alone are too few to hide the latency of the additions.
      for (int64_t out = 0; out < num_outs; out += 2 * kTileOuts) {
        outs_tile<2 * kTileOuts>(panel, first_out + out, sums + out);
      }
    } else {
      for (int64_t out = 0; out < num_outs; out += kTileOuts) {
        outs_tile<kTileOuts>(panel, first_out + out, sums + out);
      }
    }
    for (int64_t row = 0; row < panel.num_rows; ++row) {
      finish_sums_(block_, panel.first_row + row, first_out, num_outs, sums + row * kFinishOuts);
    }
  }

  // All rows of a panel against kOuts rows of W.
  template <int kOuts>
  void outs_tile(const Panel& panel, int64_t out, float* sums) const {
    const int64_t in_features = block_.in_features;
    const W* weight_rows[kOuts];
    for (int i = 0; i < kOuts; ++i) {
      weight_rows[i] = weight_ + std::min(out + i, block_.num_outs - 1) * in_features;
    }
    const int64_t tile_bytes = std::max<int64_t>(1, kOuts * in_features * static_cast<int64_t>(sizeof(W)));
    const int64_t next = out + std::max<int64_t>(1, kPrefetchBytes / tile_bytes) * kOuts;
    for (int64_t row = 0; row < panel.num_rows; row += Tile::kMaxRows) {
      DotTile<X, W> tile;
      tile.x = panel.x + row * panel.x_stride;
      tile.x_stride = panel.x_stride;
      tile.weight_rows = weight_rows;
      tile.in_features = in_features;
      // The first tile of rows to pass brings in what follows; the others find it in a cache.
      const bool prefetches =
          panel.first_row + row == 0 && next + kOuts <= block_.num_outs + block_.num_following_outs;
      tile.prefetch = prefetches ? weight_ + next * in_features : nullptr;
      tile.sums = sums + row * kFinishOuts;
      rows_tile<kOuts == kTileOuts ? Tile::kMaxRows : 1, kOuts>(panel.num_rows - row, tile);
    }
  }

  template <int kRows, int kOuts>
  void rows_tile(int64_t num_rows, const DotTile<X, W>& tile) const {
    if constexpr (kRows > 1) {
      if (num_rows < kRows) return rows_tile<kRows - 1, kOuts>(num_rows, tile);
    }
    Tile::template compute<kRows, kOuts>(tile);
  }

  const DotBlock& block_;
  FinishSumsFunction finish_sums_;
  const X* x_;
  const W* weight_;
};

}  // namespace nemoforge::ops
