#include "ops/causal_conv1d/causal_conv1d.h"

#include <gtest/gtest.h>

#include "ops/causal_conv1d/causal_conv1d_cases.h"
#include "ops/op_test_support.h"
#include "ops/ragged_batch.h"

namespace nemoforge::ops {
namespace {

constexpr uint64_t kSeed = 22;

int64_t num_tokens(const std::vector<SequenceCase>& sequences) {
  int64_t count = 0;
  for (const SequenceCase& s : sequences) count += s.num_rows;
  return count;
}

struct Inputs {
  explicit Inputs(const CausalConv1dCase& c) {
    Rng rng(kSeed);
    const auto num_slots = static_cast<int64_t>(c.sequences.size()) + 1;
    x = random_tensor(rng, c.x, Shape{num_tokens(c.sequences), c.channels}, c.scale);
    weight = random_tensor(rng, c.weight, Shape{c.channels, c.conv_kernel}, 0.5);
    bias = random_tensor(rng, c.weight, Shape{c.channels}, 0.5);
    state = random_tensor(rng, c.x, Shape{num_slots, c.conv_kernel - 1, c.channels}, c.scale);
  }
  Tensor x;
  Tensor weight;
  Tensor bias;
  Tensor state;
};

struct Outputs {
  Tensor out;
  Tensor state;
};

Outputs run(Backend& backend, const CausalConv1dCase& c, const Inputs& inputs) {
  const RaggedBatch batch(backend, c.sequences);
  GuardedTensor x(backend, inputs.x.view(), c.channels + 11);
  GuardedTensor weight(backend, inputs.weight.view());
  GuardedTensor bias(backend, inputs.bias.view());
  GuardedTensor state(backend, inputs.state.view());
  GuardedTensor out(backend, c.out, inputs.x.view().shape());
  backend.causal_conv1d({.rows = &batch.rows(),
                         .x = x.view(),
                         .weight = weight.view(),
                         .bias = c.bias ? bias.view() : TensorView(),
                         .conv_state = c.state ? state.view() : TensorView(),
                         .out = out.view()});
  return {out.download(), state.download()};
}

TEST(CausalConv1d, matches_the_reference) {
  ReferenceBackend reference;
  for (const auto& backend : backends_under_test()) {
    for (const CausalConv1dCase& c : causal_conv1d_cases()) {
      SCOPED_TRACE(testing::Message() << backend->name() << ": " << c.reason << ", seed " << kSeed);
      const Inputs inputs(c);
      CausalConv1dCase unrounded = c;  // an output that is not rounded to bf16, for the oracle
      unrounded.out = DType::kF32;
      const Outputs expected = run(reference, unrounded, inputs);
      const Outputs actual = run(*backend, c, inputs);
      EXPECT_TRUE(all_close(actual.out.view(), expected.out.view(), tolerance_of(c.out, OpClass::kSum)));
      EXPECT_TRUE(bits_equal(actual.state.view(), expected.state.view()));
    }
  }
}

// A sequence fed in pieces, each beginning from the state that the one before left, gives the bits of the
// whole.
TEST(CausalConv1d, pieces_give_the_bits_of_the_whole) {
  for (const auto& backend : backends_under_test()) {
    CausalConv1dCase whole{.sequences = {{.num_rows = 90}}, .channels = 70};
    const Inputs inputs(whole);
    const Outputs expected = run(*backend, whole, inputs);
    Inputs rest(whole);
    int64_t begin = 0;
    for (const int64_t num_rows : {1, 2, 40, 1, 46}) {
      CausalConv1dCase piece = whole;
      piece.sequences = {{.num_rows = num_rows, .context_len = begin, .decode = num_rows == 1}};
      rest.x = copy_rows(inputs.x, begin, num_rows);
      Outputs outputs = run(*backend, piece, rest);
      EXPECT_TRUE(bits_equal(outputs.out.view(), expected.out.view().rows(begin, num_rows)));
      rest.state = std::move(outputs.state);
      begin += num_rows;
    }
    EXPECT_TRUE(bits_equal(rest.state.view(), expected.state.view()));
  }
}

TEST(CausalConv1d, sequences_do_not_depend_on_the_batch) {
  for (const auto& backend : backends_under_test()) {
    const CausalConv1dCase whole{
        .sequences = {{.num_rows = 1, .context_len = 5, .decode = true}, {.num_rows = 44}, {.num_rows = 7}},
        .channels = 130};
    const Inputs inputs(whole);
    const Outputs together = run(*backend, whole, inputs);
    CausalConv1dCase single = whole;
    single.sequences = {{.num_rows = 44}};
    Inputs alone(single);
    alone.x = copy_rows(inputs.x, 1, 44);
    std::memcpy(alone.weight.view().raw(), inputs.weight.view().raw(), sizeof(float) * 4 * 130);
    std::memcpy(alone.bias.view().raw(), inputs.bias.view().raw(), sizeof(float) * 130);
    const Outputs outputs = run(*backend, single, alone);
    EXPECT_TRUE(bits_equal(outputs.out.view(), together.out.view().rows(1, 44)));
    EXPECT_TRUE(bits_equal(outputs.state.view().rows(1, 1), together.state.view().rows(2, 1)));
  }
}

TEST(CausalConv1d, rejects_what_the_contract_excludes) {
  for (const auto& backend : backends_under_test()) {
    const CausalConv1dCase c;
    const Inputs inputs(c);
    const RaggedBatch batch(*backend, c.sequences);
    GuardedTensor x(*backend, inputs.x.view());
    GuardedTensor weight(*backend, inputs.weight.view());
    GuardedTensor state(*backend, inputs.state.view());
    GuardedTensor out(*backend, DType::kF32, inputs.x.view().shape());
    const CausalConv1dArgs good{.rows = &batch.rows(),
                                .x = x.view(),
                                .weight = weight.view(),
                                .bias = {},
                                .conv_state = state.view(),
                                .out = out.view()};
    CausalConv1dArgs bad = good;
    bad.out = x.view();
    EXPECT_THROW(backend->causal_conv1d(bad), InternalError);
    bad = good;
    bad.conv_state = {};  // but a sequence has context
    if (backend->shares_host_memory()) {
      EXPECT_THROW(backend->causal_conv1d(bad), InternalError);
    }
    bad = good;
    bad.weight = weight.view().rows(0, 767);
    EXPECT_THROW(backend->causal_conv1d(bad), InternalError);
    bad = good;
    RaggedRows rows = batch.rows();
    rows.state_slots = {};
    bad.rows = &rows;
    EXPECT_THROW(backend->causal_conv1d(bad), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
