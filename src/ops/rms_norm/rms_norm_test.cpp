#include "ops/rms_norm/rms_norm.h"

#include <gtest/gtest.h>

#include "ops/op_test_support.h"
#include "ops/rms_norm/rms_norm_cases.h"

namespace nemoforge::ops {
namespace {

constexpr uint64_t kSeed = 20;
constexpr float kEpsilon = 1e-5f;

struct Inputs {
  explicit Inputs(const RmsNormCase& c) {
    Rng rng(kSeed);
    x = random_tensor(rng, c.x, Shape{c.num_tokens, c.hidden_size}, c.scale);
    delta = random_tensor(rng, c.out, Shape{c.num_tokens, c.hidden_size}, c.scale);
    weight = random_tensor(rng, c.weight, Shape{c.hidden_size}, 0.3, 1);
  }
  Tensor x;
  Tensor delta;
  Tensor weight;
};

int64_t stride_of(const RmsNormCase& c) {
  return c.strided ? c.hidden_size + 7 : 0;
}

Tensor run(Backend& backend, const RmsNormCase& c, const Inputs& inputs) {
  GuardedTensor x(backend, inputs.x.view(), stride_of(c));
  GuardedTensor weight(backend, inputs.weight.view());
  GuardedTensor out(backend, c.out, Shape{c.num_tokens, c.hidden_size}, stride_of(c));
  backend.rms_norm({.x = x.view(),
                    .weight = weight.view(),
                    .epsilon = kEpsilon,
                    .out = c.in_place ? x.view() : out.view()});
  if (!c.in_place) {
    EXPECT_TRUE(bits_equal(x.download().view(), inputs.x.view()));
  }
  return c.in_place ? x.download() : out.download();
}

// The case with an output that is not rounded to bf16, for the oracle.
RmsNormCase in_fp32(RmsNormCase c) {
  c.out = DType::kF32;
  c.in_place = false;
  return c;
}

struct AddOutputs {
  Tensor residual;
  Tensor out;
};

AddOutputs run_add(Backend& backend, const RmsNormCase& c, const Inputs& inputs) {
  GuardedTensor residual(backend, inputs.x.view(), stride_of(c));
  GuardedTensor delta(backend, inputs.delta.view(), stride_of(c));
  GuardedTensor weight(backend, inputs.weight.view());
  GuardedTensor out(backend, c.out, Shape{c.num_tokens, c.hidden_size}, stride_of(c));
  backend.add_rms_norm({.residual = residual.view(),
                        .delta = delta.view(),
                        .weight = weight.view(),
                        .epsilon = kEpsilon,
                        .out = c.in_place ? delta.view() : out.view()});
  return {residual.download(), c.in_place ? delta.download() : out.download()};
}

TEST(RmsNorm, matches_the_reference) {
  ReferenceBackend reference;
  for (const auto& backend : backends_under_test()) {
    for (const RmsNormCase& c : rms_norm_cases()) {
      SCOPED_TRACE(testing::Message() << backend->name() << ": " << c.reason << ", seed " << kSeed);
      const Inputs inputs(c);
      const Tensor expected = run(reference, in_fp32(c), inputs);
      const Tensor actual = run(*backend, c, inputs);
      EXPECT_TRUE(all_close(actual.view(), expected.view(), tolerance_of(c.out, OpClass::kSum)));
    }
  }
}

TEST(RmsNorm, adds_rounds_and_normalises) {
  ReferenceBackend reference;
  for (const auto& backend : backends_under_test()) {
    for (const RmsNormCase& c : rms_norm_cases()) {
      SCOPED_TRACE(testing::Message() << backend->name() << ": " << c.reason << ", seed " << kSeed);
      const Inputs inputs(c);
      const AddOutputs expected = run_add(reference, in_fp32(c), inputs);
      const AddOutputs actual = run_add(*backend, c, inputs);
      // One addition and one rounding: nothing is left to the implementation.
      EXPECT_TRUE(bits_equal(actual.residual.view(), expected.residual.view()));
      EXPECT_TRUE(all_close(actual.out.view(), expected.out.view(), tolerance_of(c.out, OpClass::kSum)));
    }
  }
}

TEST(RmsNorm, rows_do_not_depend_on_the_batch) {
  for (const auto& backend : backends_under_test()) {
    const RmsNormCase whole{.num_tokens = 200, .hidden_size = 515};
    const Inputs inputs(whole);
    const Tensor together = run(*backend, whole, inputs);
    for (const int64_t row : {0, 77, 199}) {
      RmsNormCase single = whole;
      single.num_tokens = 1;
      Inputs alone(single);
      std::memcpy(alone.x.view().raw(), inputs.x.view().rows(row, 1).raw(), 515 * sizeof(float));
      std::memcpy(alone.weight.view().raw(), inputs.weight.view().raw(), 515 * sizeof(float));
      const Tensor out = run(*backend, single, alone);
      EXPECT_TRUE(bits_equal(out.view(), together.view().rows(row, 1)));
    }
  }
}

TEST(RmsNorm, nan_stays_in_its_row) {
  for (const auto& backend : backends_under_test()) {
    const RmsNormCase c{.num_tokens = 2, .hidden_size = 37};
    Inputs inputs(c);
    inputs.x.view().data<float>()[36] = NAN;
    GuardedTensor x(*backend, inputs.x.view());
    GuardedTensor weight(*backend, inputs.weight.view());
    GuardedTensor out(*backend, DType::kF32, Shape{2, 37});
    backend->rms_norm({.x = x.view(), .weight = weight.view(), .epsilon = kEpsilon, .out = out.view()});
    const Tensor values = out.download();
    EXPECT_TRUE(std::isnan(load_element(values.view(), 0, 0)));
    EXPECT_FALSE(std::isnan(load_element(values.view(), 1, 0)));
  }
}

TEST(RmsNorm, rejects_what_the_contract_excludes) {
  for (const auto& backend : backends_under_test()) {
    const RmsNormCase c;
    const Inputs inputs(c);
    GuardedTensor x(*backend, inputs.x.view());
    GuardedTensor weight(*backend, inputs.weight.view());
    GuardedTensor out(*backend, DType::kF32, Shape{3, 256});
    const RmsNormArgs good{.x = x.view(), .weight = weight.view(), .epsilon = kEpsilon, .out = out.view()};
    RmsNormArgs bad = good;
    bad.out = out.view().rows(0, 2);
    EXPECT_THROW(backend->rms_norm(bad), InternalError);
    bad = good;
    bad.weight = x.view();
    EXPECT_THROW(backend->rms_norm(bad), InternalError);
    bad = good;
    bad.x = TensorView(x.view().raw(), DType::kI32, Shape{3, 256});
    EXPECT_THROW(backend->rms_norm(bad), InternalError);
    bad = good;
    bad.out = TensorView(static_cast<float*>(x.view().raw()) + 1, DType::kF32, Shape{3, 256});
    EXPECT_THROW(backend->rms_norm(bad), InternalError);
    EXPECT_THROW(backend->add_rms_norm({.residual = x.view(),
                                        .delta = x.view(),
                                        .weight = weight.view(),
                                        .epsilon = kEpsilon,
                                        .out = out.view()}),
                 InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
