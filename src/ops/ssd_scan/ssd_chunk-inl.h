// The scan of a chunk of rows as matrix products (the state-space dual form), for one head at a time.
// Included once for each SIMD target.
//
// With s_i the sum of the log decays of rows 0 .. i of the chunk, S the state before it and X_j = dt_j x_j:
//   y_i   = exp(s_i) S C_i + sum_{j <= i} exp(s_i - s_j) (C_i . B_j) X_j
//   S_out = exp(s_last) S  + sum_j exp(s_last - s_j) X_j B_j^T
// Exponents are never positive. The products are laid out so that the state stays as it is stored and the dot
// products C_i . B_j are shared by the heads of a group: rows i of the chunk run along the vectors (y and C
// are transposed).

#if defined(NEMOFORGE_OPS_SSD_CHUNK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEMOFORGE_OPS_SSD_CHUNK_INL_H_
#undef NEMOFORGE_OPS_SSD_CHUNK_INL_H_
#else
#define NEMOFORGE_OPS_SSD_CHUNK_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "base/integers.h"
#include "ops/small_matmul-inl.h"
#include "ops/ssd_scan/ssd_recurrence-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Rows of a chunk here. The products within a chunk cost chunk / 2 * (state_size / heads of a group +
// head_dim) a row beside 2 * head_dim * state_size for the state: at 64 a quarter of it for Nemotron's heads,
// while decaying the state once a chunk is 1/64. Config.json's chunk_size is cut into such pieces from its
// start.
constexpr int64_t kChunkRows = 64;
// Columns (rows of the chunk) that one product handles: what lies above the diagonal of a block is computed
// as zeros.
constexpr int64_t kDiagonalBlock = 32;

// Scratch of one thread; row lengths are padded to kPaddedLanes, and the padding is zero.
struct ChunkBuffers {
  ChunkBuffers(float* scratch, int64_t head_dim, int64_t state_size)
      : padded_head_dim(round_up(head_dim, kPaddedLanes)),
        padded_state_size(round_up(state_size, kPaddedLanes)) {
    const auto take = [&](int64_t num_floats) {
      float* taken = scratch;
      scratch += num_floats;
      return taken;
    };
    b = take(kChunkRows * padded_state_size);
    c = take(kChunkRows * padded_state_size);
    c_transposed = take(state_size * kChunkRows);
    products = take(kChunkRows * kChunkRows);
    weights = take(kChunkRows * kChunkRows);
    x = take(kChunkRows * padded_head_dim);
    inputs = take(kChunkRows * padded_head_dim);
    y_transposed = take(head_dim * kChunkRows);
    dt = take(kChunkRows);
    log_decay_high = take(kChunkRows);
    log_decay_low = take(kChunkRows);
    state = scratch;
  }
  static int64_t num_floats(int64_t head_dim, int64_t state_size) {
    const int64_t row = 3 * round_up(state_size, kPaddedLanes) + 3 * round_up(head_dim, kPaddedLanes);
    return kChunkRows * (row + 2 * kChunkRows + 3);
  }

  int64_t padded_head_dim;
  int64_t padded_state_size;
  float* b;               // [row j, state_size]
  float* c;               // [row i, state_size]
  float* c_transposed;    // [state_size, row i]
  float* products;        // [row j, row i]: C_i . B_j where j <= i
  float* weights;         // [row j, row i]: exp(s_i - s_j) C_i . B_j where j <= i, else 0
  float* x;               // [row j, head_dim]
  float* inputs;          // [row j, head_dim]: X_j, then exp(s_last - s_j) X_j
  float* y_transposed;    // [head_dim, row i]
  float* dt;              // [row]
  float* log_decay_high;  // [row]: s as the sum of two floats, so that differences keep fp32's relative
                          // precision
  float* log_decay_low;   // [row]
  float* state;           // what follows the buffers: states of the task's heads where they are not kept
};

// The group's part: products from b and c_transposed, whose columns from num_rows on are zero.
inline void chunk_products(ChunkBuffers& buffers, int64_t num_rows, int64_t state_size) {
  std::fill_n(buffers.products, kChunkRows * kChunkRows, 0.0f);
  for (int64_t begin = 0; begin < num_rows; begin += kDiagonalBlock) {
    const int64_t num_columns = std::min(kDiagonalBlock, round_up(num_rows - begin, kPaddedLanes));
    matmul_add({buffers.b, buffers.padded_state_size, 1}, buffers.c_transposed + begin, kChunkRows,
               buffers.products + begin, kChunkRows, std::min(num_rows, begin + kDiagonalBlock), num_columns,
               state_size);
  }
}

// s of each row from dt; returns s of the last row.
inline double sum_log_decays(ChunkBuffers& buffers, float a_log, int64_t num_rows) {
  double sum = 0;
  for (int64_t i = 0; i < kChunkRows; ++i) {
    if (i < num_rows) sum += log_decay(a_log, buffers.dt[i]);
    buffers.log_decay_high[i] = static_cast<float>(sum);
    buffers.log_decay_low[i] = static_cast<float>(sum - static_cast<double>(buffers.log_decay_high[i]));
  }
  return sum;
}

inline void decay_products(ChunkBuffers& buffers, int64_t num_rows) {
  const MatmulTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < num_rows; ++j) {
    const auto high = hn::Set(d, buffers.log_decay_high[j]);
    const auto low = hn::Set(d, buffers.log_decay_low[j]);
    for (int64_t i = j / kDiagonalBlock * kDiagonalBlock; i < round_up(num_rows, kPaddedLanes); i += lanes) {
      const auto difference = hn::Add(hn::Sub(hn::Load(d, buffers.log_decay_high + i), high),
                                      hn::Sub(hn::Load(d, buffers.log_decay_low + i), low));
      const auto decay = exp_bounded(d, hn::Min(difference, hn::Zero(d)));
      const auto before_j = hn::FirstN(d, static_cast<size_t>(std::max<int64_t>(0, j - i)));
      const auto weight = hn::Mul(decay, hn::Load(d, buffers.products + j * kChunkRows + i));
      hn::Store(hn::IfThenZeroElse(before_j, weight), d, buffers.weights + j * kChunkRows + i);
    }
  }
}

// y_transposed from `inputs` = X and the state before the chunk.
inline void chunk_outputs(ChunkBuffers& buffers, const float* state, int64_t num_rows, int64_t head_dim,
                          int64_t state_size) {
  const MatmulTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t num_columns = round_up(num_rows, kPaddedLanes);
  std::fill_n(buffers.y_transposed, head_dim * kChunkRows, 0.0f);
  matmul_add({state, state_size, 1}, buffers.c_transposed, kChunkRows, buffers.y_transposed, kChunkRows,
             head_dim, num_columns, state_size);
  for (int64_t i = 0; i < num_columns; i += lanes) {
    const auto decay = exp_bounded(d, hn::Load(d, buffers.log_decay_high + i));
    for (int64_t p = 0; p < head_dim; ++p) {
      float* y = buffers.y_transposed + p * kChunkRows + i;
      hn::Store(hn::Mul(decay, hn::Load(d, y)), d, y);
    }
  }
  for (int64_t begin = 0; begin < num_rows; begin += kDiagonalBlock) {
    matmul_add({buffers.inputs, 1, buffers.padded_head_dim}, buffers.weights + begin, kChunkRows,
               buffers.y_transposed + begin, kChunkRows, head_dim,
               std::min(kDiagonalBlock, num_columns - begin), std::min(num_rows, begin + kDiagonalBlock));
  }
}

// The state after the chunk; `inputs` = X becomes exp(s_last - s_j) X_j.
inline void chunk_state(ChunkBuffers& buffers, float* state, double last_log_decay, int64_t num_rows,
                        int64_t head_dim, int64_t state_size) {
  const MatmulTag d;
  const auto high = static_cast<float>(last_log_decay);
  for (int64_t j = 0; j < num_rows; ++j) {
    const float difference =
        (high - buffers.log_decay_high[j]) + (buffers.log_decay_low[num_rows - 1] - buffers.log_decay_low[j]);
    const float decay = std::exp(std::min(difference, 0.0f));
    float* inputs = buffers.inputs + j * buffers.padded_head_dim;
    for (int64_t p = 0; p < head_dim; ++p) inputs[p] *= decay;
  }
  const float decay = std::exp(high);
  const auto decays = hn::Set(d, decay);
  for_each_vector(
      d, head_dim * state_size,
      [&](int64_t i) HWY_ATTR { hn::StoreU(hn::Mul(decays, hn::LoadU(d, state + i)), d, state + i); },
      [&](int64_t i, int64_t rest)
          HWY_ATTR { store_partial(hn::Mul(decays, load_partial(d, state + i, rest)), d, state + i, rest); });
  matmul_add({buffers.inputs, 1, buffers.padded_head_dim}, buffers.b, buffers.padded_state_size, state,
             state_size, head_dim, state_size, num_rows);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#endif  // NEMOFORGE_OPS_SSD_CHUNK_INL_H_
