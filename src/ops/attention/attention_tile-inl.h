// Online softmax over tiles of keys, for a tile of queries that share a KV head. Included once for each SIMD
// target.
//
// The queries (rows of the batch times query heads of the KV head) run along the vectors: scores are [key,
// query] and outputs [head_dim, query], so that keys and values are read as they are stored, a softmax needs
// no sums across lanes, and a query's bits do not depend on its neighbours. Source: Dao, "FlashAttention-2"
// (2023), algorithm 1.

#if defined(NEMOFORGE_OPS_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NEMOFORGE_OPS_ATTENTION_TILE_INL_H_
#undef NEMOFORGE_OPS_ATTENTION_TILE_INL_H_
#else
#define NEMOFORGE_OPS_ATTENTION_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "ops/attention/attention_task.h"
#include "ops/small_matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nemoforge::ops {
namespace HWY_NAMESPACE {

// Stands for -infinity without the NaN of (-infinity) - (-infinity).
constexpr float kMaskedScore = -3e38f;

// Scratch of one thread. Rows of queries have kQueryTile elements; those beyond a tile's queries compute on
// zeros.
struct AttentionBuffers {
  AttentionBuffers(float* scratch, int64_t head_dim)
      : queries(scratch),
        output(queries + head_dim * kQueryTile),
        scores(output + head_dim * kQueryTile),
        largest(scores + kKeyTile * kQueryTile),
        sums(largest + kQueryTile),
        last_keys(sums + kQueryTile),
        keys(last_keys + kQueryTile),
        values(keys + kKeyTile * head_dim) {}
  static int64_t num_floats(int64_t head_dim) {
    return 2 * head_dim * kQueryTile + (kKeyTile + 3) * kQueryTile + 2 * kKeyTile * head_dim;
  }

  float* queries;    // [head_dim, query], scaled
  float* output;     // [head_dim, query], not yet divided by sums
  float* scores;     // [key, query]: scores, then their exponentials
  float* largest;    // [query]: largest score so far
  float* sums;       // [query]: sum of exponentials so far
  float* last_keys;  // [query]: the last key of the tile that it sees, counted from the tile's first
  float* keys;       // [key, head_dim]
  float* values;     // [key, head_dim]
};

// Scores become exponentials, and sums and output are rescaled to the new largest scores. `masked`: some
// query does not see some of the tile's keys.
inline void softmax_tile(AttentionBuffers& buffers, int64_t num_queries, int64_t num_keys, int64_t head_dim,
                         bool masked) {
  const MatmulTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < num_queries; i += lanes) {
    const auto old_largest = hn::Load(d, buffers.largest + i);
    auto largest = old_largest;
    if (masked) {
      const auto last_key = hn::Load(d, buffers.last_keys + i);
      for (int64_t j = 0; j < num_keys; ++j) {
        float* score = buffers.scores + j * kQueryTile + i;
        const auto unseen = hn::Gt(hn::Set(d, static_cast<float>(j)), last_key);
        hn::Store(hn::IfThenElse(unseen, hn::Set(d, kMaskedScore), hn::Load(d, score)), d, score);
      }
    }
    for (int64_t j = 0; j < num_keys; ++j) {
      largest = hn::Max(largest, hn::Load(d, buffers.scores + j * kQueryTile + i));
    }
    auto sum = hn::Zero(d);
    for (int64_t j = 0; j < num_keys; ++j) {
      float* score = buffers.scores + j * kQueryTile + i;
      const auto probability = exp_bounded(d, hn::Sub(hn::Load(d, score), largest));
      hn::Store(probability, d, score);
      sum = hn::Add(sum, probability);
    }
    const auto rescale = exp_bounded(d, hn::Sub(old_largest, largest));
    hn::Store(largest, d, buffers.largest + i);
    hn::Store(hn::MulAdd(hn::Load(d, buffers.sums + i), rescale, sum), d, buffers.sums + i);
    if (hn::AllTrue(d, hn::Eq(rescale, hn::Set(d, 1.0f)))) continue;
    for (int64_t p = 0; p < head_dim; ++p) {
      float* output = buffers.output + p * kQueryTile + i;
      hn::Store(hn::Mul(rescale, hn::Load(d, output)), d, output);
    }
  }
}

// The loaded tile of keys and values joins the output.
inline void attend_tile(AttentionBuffers& buffers, int64_t num_queries, int64_t num_keys, int64_t head_dim,
                        bool masked) {
  std::fill_n(buffers.scores, num_keys * kQueryTile, 0.0f);
  matmul_add({buffers.keys, head_dim, 1}, buffers.queries, kQueryTile, buffers.scores, kQueryTile, num_keys,
             num_queries, head_dim);
  softmax_tile(buffers, num_queries, num_keys, head_dim, masked);
  matmul_add({buffers.values, 1, head_dim}, buffers.scores, kQueryTile, buffers.output, kQueryTile, head_dim,
             num_queries, num_keys);
}

}  // namespace HWY_NAMESPACE
}  // namespace nemoforge::ops
HWY_AFTER_NAMESPACE();

#endif  // NEMOFORGE_OPS_ATTENTION_TILE_INL_H_
