#include "ops/attention/attention.h"

#include <gtest/gtest.h>

#include "ops/attention/attention_cases.h"
#include "ops/op_test_support.h"
#include "ops/ragged_batch.h"

namespace nemoforge::ops {
namespace {

constexpr uint64_t kSeed = 24;

// Queries of the batch's rows; keys and values of every position of every sequence, one sequence after
// another.
struct Inputs {
  explicit Inputs(const AttentionCase& c) {
    Rng rng(kSeed);
    int64_t num_rows = 0;
    int64_t num_positions = 0;
    for (const SequenceCase& s : c.sequences) {
      num_rows += s.num_rows;
      num_positions += s.context_len + s.num_rows;
    }
    q = random_tensor(rng, c.q, Shape{num_rows, c.num_heads * c.head_dim}, c.q_scale);
    k = random_tensor(rng, c.q, Shape{num_positions, c.num_kv_heads * c.head_dim});
    v = random_tensor(rng, c.q, Shape{num_positions, c.num_kv_heads * c.head_dim});
  }
  Inputs(Tensor q, Tensor k, Tensor v) : q(std::move(q)), k(std::move(k)), v(std::move(v)) {}
  Tensor q, k, v;
};

struct Outputs {
  Tensor out, k, v;
};

// Appends all keys and values, then attends. What is not appended stays NaN in the cache.
Outputs run(Backend& backend, const AttentionCase& c, const Inputs& inputs, DType out_dtype) {
  std::vector<SequenceCase> all_positions;
  for (const SequenceCase& s : c.sequences) all_positions.push_back({.num_rows = s.context_len + s.num_rows});
  const RaggedBatch append_batch(backend, all_positions, c.block_size);
  const RaggedBatch batch(backend, c.sequences, c.block_size);
  const int64_t kv_size = c.num_kv_heads * c.head_dim;
  GuardedTensor q(backend, inputs.q.view(), c.num_heads * c.head_dim + (c.aligned_rows ? 8 : 9));
  GuardedTensor k(backend, inputs.k.view(), kv_size + 3);
  GuardedTensor v(backend, inputs.v.view(), kv_size + 3);
  GuardedTensor k_cache(backend, c.cache, Shape{batch.num_blocks(), c.block_size, kv_size});
  GuardedTensor v_cache(backend, c.cache, Shape{batch.num_blocks(), c.block_size, kv_size});
  GuardedTensor out(backend, out_dtype, inputs.q.view().shape(),
                    c.num_heads * c.head_dim + (c.aligned_rows ? 8 : 1));
  const KvCacheView cache{k_cache.view(), v_cache.view()};
  backend.kv_cache_append({.rows = &append_batch.rows(), .k = k.view(), .v = v.view(), .cache = cache});
  backend.attention({.rows = &batch.rows(),
                     .q = q.view(),
                     .cache = cache,
                     .num_heads = c.num_heads,
                     .num_kv_heads = c.num_kv_heads,
                     .head_dim = c.head_dim,
                     .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim))),
                     .out = out.view()});
  return {out.download(), k_cache.download(), v_cache.download()};
}

Outputs run(Backend& backend, const AttentionCase& c, const Inputs& inputs) {
  return run(backend, c, inputs, c.q);
}

TEST(Attention, matches_the_reference) {
  ReferenceBackend reference;
  for (const auto& backend : backends_under_test()) {
    for (const AttentionCase& c : attention_cases()) {
      SCOPED_TRACE(testing::Message() << backend->name() << ": " << c.reason << ", seed " << kSeed);
      const Inputs inputs(c);
      const Outputs expected = run(reference, c, inputs, DType::kF32);  // not rounded to bf16
      const Outputs actual = run(*backend, c, inputs);
      EXPECT_TRUE(all_close(actual.out.view(), expected.out.view(), tolerance_of(c.q, OpClass::kScan)));
      EXPECT_TRUE(all_close(actual.k.view(), expected.k.view(), {}));
      EXPECT_TRUE(all_close(actual.v.view(), expected.v.view(), {}));
    }
  }
}

// A prompt prefilled in pieces gives the bits of the whole, wherever the pieces end.
TEST(Attention, pieces_give_the_bits_of_the_whole) {
  for (const auto& backend : backends_under_test()) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(testing::Message() << backend->name() << ", " << dtype_name(dtype));
      AttentionCase whole{.sequences = {{.num_rows = 150}}, .q = dtype, .cache = dtype};
      const Inputs inputs(whole);
      const Outputs expected = run(*backend, whole, inputs);
      int64_t begin = 0;
      for (const int64_t num_rows : {1, 7, 63, 64, 15}) {
        AttentionCase piece = whole;
        piece.sequences = {{.num_rows = num_rows, .context_len = begin}};
        const Inputs part(copy_rows(inputs.q, begin, num_rows), copy_rows(inputs.k, 0, begin + num_rows),
                          copy_rows(inputs.v, 0, begin + num_rows));
        const Outputs outputs = run(*backend, piece, part);
        EXPECT_TRUE(bits_equal(outputs.out.view(), expected.out.view().rows(begin, num_rows))) << begin;
        begin += num_rows;
      }
    }
  }
}

// Each sequence alone gives the bits that it has among others.
TEST(Attention, sequences_do_not_depend_on_the_batch) {
  for (const auto& backend : backends_under_test()) {
    AttentionCase whole{.sequences = {{.num_rows = 1, .context_len = 2500, .decode = true},
                                      {.num_rows = 1, .context_len = 3, .decode = true},
                                      {.num_rows = 40, .context_len = 90},
                                      {.num_rows = 1, .context_len = 70}}};
    const Inputs inputs(whole);
    const Outputs together = run(*backend, whole, inputs);
    int64_t row = 0;
    int64_t position = 0;
    for (const SequenceCase& s : whole.sequences) {
      AttentionCase single = whole;
      single.sequences = {s};
      const int64_t num_positions = s.context_len + s.num_rows;
      const Inputs part(copy_rows(inputs.q, row, s.num_rows), copy_rows(inputs.k, position, num_positions),
                        copy_rows(inputs.v, position, num_positions));
      const Outputs outputs = run(*backend, single, part);
      EXPECT_TRUE(bits_equal(outputs.out.view(), together.out.view().rows(row, s.num_rows))) << row;
      row += s.num_rows;
      position += num_positions;
    }
  }
}

TEST(Attention, rejects_what_the_contract_excludes) {
  for (const auto& backend : backends_under_test()) {
    const AttentionCase c{.sequences = {{.num_rows = 3}}};
    const Inputs inputs(c);
    const RaggedBatch batch(*backend, c.sequences);
    GuardedTensor q(*backend, inputs.q.view());
    GuardedTensor k(*backend, inputs.k.view());
    GuardedTensor cache(*backend, DType::kF32, Shape{batch.num_blocks(), 16, 64});
    GuardedTensor narrow(*backend, DType::kF32, Shape{batch.num_blocks(), 16, 63});
    GuardedTensor out(*backend, DType::kF32, inputs.q.view().shape());
    const AttentionArgs good{.rows = &batch.rows(),
                             .q = q.view(),
                             .cache = {cache.view(), cache.view()},
                             .num_heads = c.num_heads,
                             .num_kv_heads = c.num_kv_heads,
                             .head_dim = c.head_dim,
                             .scale = 1,
                             .out = out.view()};
    AttentionArgs bad = good;
    bad.num_kv_heads = 3;
    EXPECT_THROW(backend->attention(bad), InternalError);
    bad = good;
    bad.out = q.view();
    EXPECT_THROW(backend->attention(bad), InternalError);
    bad = good;
    bad.cache = {narrow.view(), narrow.view()};
    EXPECT_THROW(backend->attention(bad), InternalError);
    EXPECT_THROW(
        backend->kv_cache_append({.rows = &batch.rows(), .k = k.view(), .v = k.view(), .cache = bad.cache}),
        InternalError);
    bad = good;
    RaggedRows rows = batch.rows();
    rows.block_tables = {};
    bad.rows = &rows;
    EXPECT_THROW(backend->attention(bad), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
