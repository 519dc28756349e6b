// Small fp32 matrix products whose operands lie in a core's own caches: the building block of the chunked
// scan and of attention. Included once for each SIMD target.

#if defined(NEMOFORGE_OPS_SMALL_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEMOFORGE_OPS_SMALL_MATMUL_INL_H_
#undef NEMOFORGE_OPS_SMALL_MATMUL_INL_H_
#else
#define NEMOFORGE_OPS_SMALL_MATMUL_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "ops/simd_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Columns of scratch matrices are padded to a multiple of this, the widest vector.
constexpr int64_t kPaddedLanes = 16;
using MatmulTag = hn::CappedTag<float, kPaddedLanes>;

// Element (i, k) of the left operand is data[i * row_stride + k * column_stride]: read one by one, so any
// layout does.
struct LeftOperand {
  const float* data = nullptr;
  int64_t row_stride = 0;
  int64_t column_stride = 1;
};

// Rows of c that a tile holds in registers beside two vectors of columns: as many independent sums as hide
// the latency of two fused multiply-adds a cycle, and few enough for the registers (32 with AVX-512, else
// 16). They are an array of vectors, which Highway's scalable targets (SVE, RVV) do not have.
constexpr int kTileRows = HWY_CAP_GE512 ? 8 : 4;

// c += a b on kRows rows and kVectors vectors of columns, held in registers over all of k. `last_lanes` of
// the last vector are read from and written to c.
template <int kRows, int kVectors>
void matmul_tile(const LeftOperand& a, const float* HWY_RESTRICT b, int64_t b_stride, float* HWY_RESTRICT c,
                 int64_t c_stride, int64_t k_size, int64_t last_lanes) {
  const MatmulTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const bool whole = last_lanes == lanes;
  hn::Vec<MatmulTag> sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const float* from = c + i * c_stride + v * lanes;
      sums[i][v] = v + 1 < kVectors || whole ? hn::LoadU(d, from) : load_partial(d, from, last_lanes);
    }
  }
  const float* a_column = a.data;
  for (int64_t k = 0; k < k_size; ++k, a_column += a.column_stride, b += b_stride) {
    hn::Vec<MatmulTag> b_row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) b_row[v] = hn::LoadU(d, b + v * lanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const auto a_element = hn::Set(d, a_column[i * a.row_stride]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::MulAdd(a_element, b_row[v], sums[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      float* to = c + i * c_stride + v * lanes;
      if (v + 1 < kVectors || whole) {
        hn::StoreU(sums[i][v], d, to);
      } else {
        store_partial(sums[i][v], d, to, last_lanes);
      }
    }
  }
}

template <int kVectors>
void matmul_columns(const LeftOperand& a, const float* b, int64_t b_stride, float* c, int64_t c_stride,
                    int64_t num_rows, int64_t k_size, int64_t last_lanes) {
  LeftOperand rows = a;
  int64_t left = num_rows;
  const auto tile = [&](auto num_tile_rows) HWY_ATTR {
    constexpr int kRows = decltype(num_tile_rows)::value;
    matmul_tile<kRows, kVectors>(rows, b, b_stride, c, c_stride, k_size, last_lanes);
    rows.data += kRows * a.row_stride;
    c += kRows * c_stride;
    left -= kRows;
  };
  while (left >= kTileRows) tile(std::integral_constant<int, kTileRows>{});
  if (left >= 4) tile(std::integral_constant<int, 4>{});
  if (left >= 2) tile(std::integral_constant<int, 2>{});
  if (left >= 1) tile(std::integral_constant<int, 1>{});
}

// c[i, j] += sum_k a(i, k) b[k, j] for i < num_rows, j < num_columns. Rows of b are readable up to
// num_columns rounded up to kPaddedLanes; c is touched within num_columns alone. Every element is one sum
// over k in order, whatever the sizes: its bits depend on its row of a and its column of b only.
inline void matmul_add(const LeftOperand& a, const float* b, int64_t b_stride, float* c, int64_t c_stride,
                       int64_t num_rows, int64_t num_columns, int64_t k_size) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(MatmulTag()));
  int64_t j = 0;
  for (; j + lanes < num_columns; j += 2 * lanes) {
    const int64_t last_lanes = std::min(lanes, num_columns - j - lanes);
    matmul_columns<2>(a, b + j, b_stride, c + j, c_stride, num_rows, k_size, last_lanes);
  }
  if (j < num_columns) {
    matmul_columns<1>(a, b + j, b_stride, c + j, c_stride, num_rows, k_size, num_columns - j);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#endif  // NEMOFORGE_OPS_SMALL_MATMUL_INL_H_
