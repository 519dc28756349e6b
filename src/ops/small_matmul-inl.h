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

// One or two vectors of columns of up to four rows of c, held in registers over all of k. Eight independent
// sums hide the latency of the fused multiply-adds. `last_lanes` of the last vector are read from and written
// to c.
template <int kRows, int kVectors>
HWY_INLINE void matmul_tile(const LeftOperand& a, const float* b, int64_t b_stride, float* c,
                            int64_t c_stride, int64_t k_size, int64_t last_lanes) {
  const MatmulTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto load_c = [&](int64_t row, int vector) HWY_ATTR {
    const float* from = c + row * c_stride + vector * lanes;
    if (row >= kRows || vector >= kVectors) return hn::Zero(d);
    if (vector + 1 < kVectors || last_lanes == lanes) return hn::LoadU(d, from);
    return load_partial(d, from, last_lanes);
  };
  const auto store_c = [&](hn::Vec<MatmulTag> value, int64_t row, int vector) HWY_ATTR {
    float* to = c + row * c_stride + vector * lanes;
    if (row >= kRows || vector >= kVectors) return;
    if (vector + 1 < kVectors || last_lanes == lanes) {
      hn::StoreU(value, d, to);
    } else {
      store_partial(value, d, to, last_lanes);
    }
  };
  auto c00 = load_c(0, 0), c01 = load_c(0, 1);
  auto c10 = load_c(1, 0), c11 = load_c(1, 1);
  auto c20 = load_c(2, 0), c21 = load_c(2, 1);
  auto c30 = load_c(3, 0), c31 = load_c(3, 1);
  for (int64_t k = 0; k < k_size; ++k) {
    const float* a_column = a.data + k * a.column_stride;
    const auto b0 = hn::LoadU(d, b + k * b_stride);
    const auto b1 = kVectors > 1 ? hn::LoadU(d, b + k * b_stride + lanes) : b0;
    const auto add_row = [&](int64_t row, hn::Vec<MatmulTag>& sum0, hn::Vec<MatmulTag>& sum1) HWY_ATTR {
      if (row >= kRows) return;
      const auto a_element = hn::Set(d, a_column[row * a.row_stride]);
      sum0 = hn::MulAdd(a_element, b0, sum0);
      if (kVectors > 1) sum1 = hn::MulAdd(a_element, b1, sum1);
    };
    add_row(0, c00, c01);
    add_row(1, c10, c11);
    add_row(2, c20, c21);
    add_row(3, c30, c31);
  }
  store_c(c00, 0, 0), store_c(c01, 0, 1);
  store_c(c10, 1, 0), store_c(c11, 1, 1);
  store_c(c20, 2, 0), store_c(c21, 2, 1);
  store_c(c30, 3, 0), store_c(c31, 3, 1);
}

template <int kVectors>
HWY_INLINE void matmul_columns(const LeftOperand& a, const float* b, int64_t b_stride, float* c,
                               int64_t c_stride, int64_t num_rows, int64_t k_size, int64_t last_lanes) {
  int64_t i = 0;
  const auto tile = [&](auto rows) HWY_ATTR {
    const LeftOperand a_rows{a.data + i * a.row_stride, a.row_stride, a.column_stride};
    matmul_tile<decltype(rows)::value, kVectors>(a_rows, b, b_stride, c + i * c_stride, c_stride, k_size,
                                                 last_lanes);
  };
  for (; i + 4 <= num_rows; i += 4) tile(std::integral_constant<int, 4>{});
  if (num_rows - i == 3) tile(std::integral_constant<int, 3>{});
  if (num_rows - i == 2) tile(std::integral_constant<int, 2>{});
  if (num_rows - i == 1) tile(std::integral_constant<int, 1>{});
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
