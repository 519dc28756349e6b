// A block of a row product for one thread, and the loops over its tiles that every instruction set shares.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tensor/dtype.h"

namespace nemoforge::ops {

struct DotBlock {
  const void* x = nullptr;  // first row
  int64_t x_stride = 0;     // elements
  int64_t num_rows = 0;
  const void* weight = nullptr;  // first output's row; rows are in_features elements apart
  int64_t num_outs = 0;
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
void finish_sums(const DotBlock& block, int64_t row, int64_t first_out, int64_t count, const float* sums);

// Outputs of a tile: their weight rows are read side by side.
inline constexpr int64_t kTileOuts = 4;
// Rows of a panel: a panel of x in bf16 at Nemotron's hidden size is 344 KB, and with as much of W stays in a
// 1 MB second-level cache.
inline constexpr int64_t kPanelRows = 64;

// Calls Tile::sums<rows, outs>(x, x_stride, weight_rows, in_features, sums[rows * outs]) for all tiles of a
// block. Outputs beyond the block's last repeat it, and are dropped.
template <class Tile>
class DotBlockLoops {
 public:
  explicit DotBlockLoops(const DotBlock& block)
      : block_(block),
        x_(static_cast<const typename Tile::X*>(block.x)),
        weight_(static_cast<const typename Tile::W*>(block.weight)) {}

  void run() const {
    if (block_.num_rows == 1) {
      // Two tiles at once: one row's sums alone are too few to hide the latency of the additions.
      for (int64_t out = 0; out < block_.num_outs; out += 2 * kTileOuts) tile<1, 2 * kTileOuts>(0, out);
      return;
    }
    for (int64_t panel = 0; panel < block_.num_rows; panel += kPanelRows) {
      const int64_t panel_end = std::min(panel + kPanelRows, block_.num_rows);
      for (int64_t out = 0; out < block_.num_outs; out += kTileOuts) {
        for (int64_t row = panel; row < panel_end; row += Tile::kMaxRows) {
          rows_tile<Tile::kMaxRows>(std::min<int64_t>(panel_end - row, Tile::kMaxRows), row, out);
        }
      }
    }
  }

 private:
  template <int kRows>
  void rows_tile(int64_t num_rows, int64_t row, int64_t out) const {
    if constexpr (kRows > 1) {
      if (num_rows < kRows) return rows_tile<kRows - 1>(num_rows, row, out);
    }
    tile<kRows, kTileOuts>(row, out);
  }

  template <int kRows, int kOuts>
  void tile(int64_t row, int64_t out) const {
    const typename Tile::W* weight_rows[kOuts];
    for (int i = 0; i < kOuts; ++i) {
      weight_rows[i] = weight_ + std::min(out + i, block_.num_outs - 1) * block_.in_features;
    }
    float sums[kRows * kOuts];
    Tile::template sums<kRows, kOuts>(x_ + row * block_.x_stride, block_.x_stride, weight_rows,
                                      block_.in_features, sums);
    const int64_t count = std::min<int64_t>(kOuts, block_.num_outs - out);
    for (int i = 0; i < kRows; ++i) finish_sums(block_, row + i, out, count, sums + i * kOuts);
  }

  const DotBlock& block_;
  const typename Tile::X* x_;
  const typename Tile::W* weight_;
};

}  // namespace nemoforge::ops
