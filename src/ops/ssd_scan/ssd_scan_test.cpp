#include "ops/ssd_scan/ssd_scan.h"

#include <gtest/gtest.h>

#include "ops/op_test_support.h"
#include "ops/ragged_batch.h"
#include "ops/ssd_scan/ssd_scan_cases.h"

namespace nemoforge::ops {
namespace {

constexpr uint64_t kSeed = 23;

struct Inputs {
  explicit Inputs(const SsdScanCase& c) {
    Rng rng(kSeed);
    a_log = random_tensor(rng, DType::kF32, Shape{c.num_heads}, 0.5, c.a_log_mean);
    d = random_tensor(rng, DType::kF32, Shape{c.num_heads});
    dt_bias = random_tensor(rng, DType::kF32, Shape{c.num_heads}, c.dt_bias_scale, c.dt_bias_mean);
    int64_t num_tokens = 0;
    for (const SequenceCase& s : c.sequences) num_tokens += s.num_rows;
    const auto num_slots = static_cast<int64_t>(c.sequences.size()) + 1;
    // Products of b and c are of order 1.
    const double scale = 1 / std::sqrt(std::sqrt(static_cast<double>(c.state_size)));
    x = random_tensor(rng, c.x, Shape{num_tokens, c.num_heads * c.head_dim});
    b = random_tensor(rng, c.x, Shape{num_tokens, c.num_groups * c.state_size}, scale);
    this->c = random_tensor(rng, c.x, Shape{num_tokens, c.num_groups * c.state_size}, scale);
    dt_raw = random_tensor(rng, c.x, Shape{num_tokens, c.num_heads});
    state = random_tensor(rng, DType::kF32, Shape{num_slots, c.num_heads, c.head_dim, c.state_size}, 0.3);
  }
  // The inputs of rows [begin, begin + count) alone.
  [[nodiscard]] Inputs rows(int64_t begin, int64_t count) const {
    Inputs part;
    part.a_log = copy_rows(a_log, 0, a_log.view().size(0));
    part.d = copy_rows(d, 0, d.view().size(0));
    part.dt_bias = copy_rows(dt_bias, 0, dt_bias.view().size(0));
    part.x = copy_rows(x, begin, count);
    part.b = copy_rows(b, begin, count);
    part.c = copy_rows(c, begin, count);
    part.dt_raw = copy_rows(dt_raw, begin, count);
    part.state = copy_rows(state, 0, state.view().size(0));
    return part;
  }
  Tensor a_log, d, dt_bias, x, b, c, dt_raw, state;

 private:
  Inputs() = default;
};

struct Outputs {
  Tensor y;
  Tensor state;
};

Outputs run(Backend& backend, const SsdScanCase& c, const Inputs& inputs, DType y_dtype) {
  const RaggedBatch batch(backend, c.sequences);
  GuardedTensor x(backend, inputs.x.view(), c.num_heads * c.head_dim + (c.aligned_rows ? 16 : 13));
  GuardedTensor b(backend, inputs.b.view(), c.num_groups * c.state_size + (c.aligned_rows ? 8 : 3));
  GuardedTensor cc(backend, inputs.c.view(), c.num_groups * c.state_size + (c.aligned_rows ? 24 : 1));
  GuardedTensor dt_raw(backend, inputs.dt_raw.view(), c.num_heads + 5);
  GuardedTensor a_log(backend, inputs.a_log.view());
  GuardedTensor d(backend, inputs.d.view());
  GuardedTensor dt_bias(backend, inputs.dt_bias.view());
  GuardedTensor state(backend, inputs.state.view());
  GuardedTensor y(backend, y_dtype, inputs.x.view().shape());
  backend.ssd_scan({.rows = &batch.rows(),
                    .x = x.view(),
                    .b = b.view(),
                    .c = cc.view(),
                    .dt_raw = dt_raw.view(),
                    .a_log = a_log.view(),
                    .d = d.view(),
                    .dt_bias = dt_bias.view(),
                    .num_heads = c.num_heads,
                    .head_dim = c.head_dim,
                    .num_groups = c.num_groups,
                    .state_size = c.state_size,
                    .chunk_size = c.chunk_size,
                    .ssm_state = c.state ? state.view() : TensorView(),
                    .y = c.in_place ? x.view() : y.view()});
  return {c.in_place ? x.download() : y.download(), state.download()};
}

Outputs run(Backend& backend, const SsdScanCase& c, const Inputs& inputs) {
  return run(backend, c, inputs, c.x);
}

TEST(SsdScan, matches_the_reference) {
  ReferenceBackend reference;
  for (const auto& backend : backends_under_test()) {
    for (const SsdScanCase& c : ssd_scan_cases()) {
      SCOPED_TRACE(testing::Message() << backend->name() << ": " << c.reason << ", seed " << kSeed);
      const Inputs inputs(c);
      SsdScanCase unrounded = c;  // an output that is not rounded to bf16, for the oracle
      unrounded.in_place = false;
      const Outputs expected = run(reference, unrounded, inputs, DType::kF32);
      const Outputs actual = run(*backend, c, inputs);
      EXPECT_TRUE(all_close(actual.y.view(), expected.y.view(), tolerance_of(c.x, OpClass::kScan)));
      EXPECT_TRUE(
          all_close(actual.state.view(), expected.state.view(), tolerance_of(DType::kF32, OpClass::kScan)));
    }
  }
}

// A prompt prefilled in pieces that end where chunks end gives the bits of the whole.
TEST(SsdScan, pieces_give_the_bits_of_the_whole) {
  for (const auto& backend : backends_under_test()) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(testing::Message() << backend->name() << ", " << dtype_name(dtype));
      const int64_t chunk = dtype == DType::kF32 ? 32 : 64;
      SsdScanCase whole{.sequences = {{.num_rows = 6 * chunk + 5}}, .chunk_size = chunk, .x = dtype};
      const Inputs inputs(whole);
      const Outputs expected = run(*backend, whole, inputs);
      Tensor state = copy_rows(inputs.state, 0, 2);
      int64_t begin = 0;
      for (const int64_t num_rows : {chunk, 3 * chunk, 2 * chunk, int64_t{5}}) {
        SsdScanCase piece = whole;
        piece.sequences = {{.num_rows = num_rows, .context_len = begin}};
        Inputs part = inputs.rows(begin, num_rows);
        part.state = std::move(state);
        Outputs outputs = run(*backend, piece, part);
        EXPECT_TRUE(bits_equal(outputs.y.view(), expected.y.view().rows(begin, num_rows))) << begin;
        state = std::move(outputs.state);
        begin += num_rows;
      }
      EXPECT_TRUE(bits_equal(state.view(), expected.state.view()));
    }
  }
}

// Each sequence alone gives the bits that it has among others.
TEST(SsdScan, sequences_do_not_depend_on_the_batch) {
  for (const auto& backend : backends_under_test()) {
    SsdScanCase whole{.sequences = {{.num_rows = 1, .context_len = 8, .decode = true},
                                    {.num_rows = 1, .context_len = 80, .decode = true},
                                    {.num_rows = 6, .context_len = 60},
                                    {.num_rows = 130},
                                    {.num_rows = 1, .context_len = 3}}};
    const Inputs inputs(whole);
    const Outputs together = run(*backend, whole, inputs);
    int64_t begin = 0;
    for (size_t i = 0; i < whole.sequences.size(); ++i) {
      SsdScanCase single = whole;
      single.sequences = {whole.sequences[i]};
      const int64_t num_rows = whole.sequences[i].num_rows;
      const auto slot = static_cast<int64_t>(whole.sequences.size() - i);
      Inputs part = inputs.rows(begin, num_rows);
      part.state = copy_rows(inputs.state, slot - 1, 2);  // a batch of one uses slot 1
      const Outputs outputs = run(*backend, single, part);
      EXPECT_TRUE(bits_equal(outputs.y.view(), together.y.view().rows(begin, num_rows))) << i;
      EXPECT_TRUE(bits_equal(outputs.state.view().rows(1, 1), together.state.view().rows(slot, 1))) << i;
      begin += num_rows;
    }
  }
}

// One row at a time and all rows at once are two algorithms for the same function.
TEST(SsdScan, decode_continues_prefill) {
  for (const auto& backend : backends_under_test()) {
    SsdScanCase whole{.sequences = {{.num_rows = 90}}};
    const Inputs inputs(whole);
    const Outputs expected = run(*backend, whole, inputs);
    Tensor state = copy_rows(inputs.state, 0, 2);
    for (int64_t row = 0; row < 90; ++row) {
      SsdScanCase step = whole;
      step.sequences = {{.num_rows = 1, .context_len = row, .decode = true}};
      Inputs part = inputs.rows(row, 1);
      part.state = std::move(state);
      Outputs outputs = run(*backend, step, part);
      EXPECT_TRUE(all_close(outputs.y.view(), expected.y.view().rows(row, 1),
                            tolerance_of(DType::kF32, OpClass::kScan)))
          << row;
      state = std::move(outputs.state);
    }
  }
}

TEST(SsdScan, rejects_what_the_contract_excludes) {
  for (const auto& backend : backends_under_test()) {
    const SsdScanCase c{.sequences = {{.num_rows = 3}}};
    const Inputs inputs(c);
    const RaggedBatch batch(*backend, c.sequences);
    GuardedTensor x(*backend, inputs.x.view());
    GuardedTensor b(*backend, inputs.b.view());
    GuardedTensor dt_raw(*backend, inputs.dt_raw.view());
    GuardedTensor heads(*backend, inputs.d.view());
    GuardedTensor state(*backend, inputs.state.view());
    GuardedTensor y(*backend, DType::kF32, inputs.x.view().shape());
    const SsdScanArgs good{.rows = &batch.rows(),
                           .x = x.view(),
                           .b = b.view(),
                           .c = b.view(),
                           .dt_raw = dt_raw.view(),
                           .a_log = heads.view(),
                           .d = heads.view(),
                           .dt_bias = heads.view(),
                           .num_heads = c.num_heads,
                           .head_dim = c.head_dim,
                           .num_groups = c.num_groups,
                           .state_size = c.state_size,
                           .chunk_size = c.chunk_size,
                           .ssm_state = state.view(),
                           .y = y.view()};
    SsdScanArgs bad = good;
    bad.num_groups = 3;
    EXPECT_THROW(backend->ssd_scan(bad), InternalError);
    bad = good;
    bad.state_size = 63;
    EXPECT_THROW(backend->ssd_scan(bad), InternalError);
    bad = good;
    bad.chunk_size = 0;
    EXPECT_THROW(backend->ssd_scan(bad), InternalError);
    bad = good;
    bad.y = TensorView(b.view().raw(), DType::kF32, y.view().shape());
    EXPECT_THROW(backend->ssd_scan(bad), InternalError);
    bad = good;
    RaggedRows rows = batch.rows();
    rows.num_decode = 2;
    bad.rows = &rows;
    EXPECT_THROW(backend->ssd_scan(bad), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
