#include "ops/gated_rms_norm/gated_rms_norm.h"

#include <gtest/gtest.h>

#include "ops/gated_rms_norm/gated_rms_norm_cases.h"
#include "ops/op_test_support.h"

namespace nemoforge::ops {
namespace {

constexpr uint64_t kSeed = 21;

struct Inputs {
  explicit Inputs(const GatedRmsNormCase& c) {
    Rng rng(kSeed);
    y = random_tensor(rng, c.y, Shape{c.num_tokens, c.channels});
    z = random_tensor(rng, c.z, Shape{c.num_tokens, c.channels}, c.z_scale);
    weight = random_tensor(rng, c.weight, Shape{c.channels}, 0.3, 1);
  }
  Tensor y;
  Tensor z;
  Tensor weight;
};

Tensor run(Backend& backend, const GatedRmsNormCase& c, const Inputs& inputs) {
  GuardedTensor y(backend, inputs.y.view());
  GuardedTensor z(backend, inputs.z.view(), c.z_strided ? 2 * c.channels + 5 : 0);
  GuardedTensor weight(backend, inputs.weight.view());
  GuardedTensor out(backend, c.out, Shape{c.num_tokens, c.channels});
  backend.gated_rms_norm({.y = y.view(),
                          .z = z.view(),
                          .weight = weight.view(),
                          .num_groups = c.num_groups,
                          .epsilon = 1e-5f,
                          .out = c.in_place ? y.view() : out.view()});
  return c.in_place ? y.download() : out.download();
}

TEST(GatedRmsNorm, matches_the_reference) {
  ReferenceBackend reference;
  for (const auto& backend : backends_under_test()) {
    for (const GatedRmsNormCase& c : gated_rms_norm_cases()) {
      SCOPED_TRACE(testing::Message() << backend->name() << ": " << c.reason << ", seed " << kSeed);
      const Inputs inputs(c);
      GatedRmsNormCase unrounded = c;  // an output that is not rounded to bf16, for the oracle
      unrounded.out = DType::kF32;
      unrounded.in_place = false;
      const Tensor expected = run(reference, unrounded, inputs);
      const Tensor actual = run(*backend, c, inputs);
      EXPECT_TRUE(all_close(actual.view(), expected.view(), tolerance_of(c.out, OpClass::kSum)));
    }
  }
}

TEST(GatedRmsNorm, rows_do_not_depend_on_the_batch) {
  for (const auto& backend : backends_under_test()) {
    const GatedRmsNormCase whole{.num_tokens = 100};
    const Inputs inputs(whole);
    const Tensor together = run(*backend, whole, inputs);
    GatedRmsNormCase single = whole;
    single.num_tokens = 1;
    for (const int64_t row : {0, 63, 99}) {
      Inputs alone(single);
      const size_t row_bytes = static_cast<size_t>(whole.channels) * sizeof(float);
      std::memcpy(alone.y.view().raw(), inputs.y.view().rows(row, 1).raw(), row_bytes);
      std::memcpy(alone.z.view().raw(), inputs.z.view().rows(row, 1).raw(), row_bytes);
      std::memcpy(alone.weight.view().raw(), inputs.weight.view().raw(), row_bytes);
      EXPECT_TRUE(bits_equal(run(*backend, single, alone).view(), together.view().rows(row, 1)));
    }
  }
}

TEST(GatedRmsNorm, rejects_what_the_contract_excludes) {
  for (const auto& backend : backends_under_test()) {
    const GatedRmsNormCase c;
    const Inputs inputs(c);
    GuardedTensor y(*backend, inputs.y.view());
    GuardedTensor z(*backend, inputs.z.view());
    GuardedTensor weight(*backend, inputs.weight.view());
    GuardedTensor out(*backend, DType::kF32, Shape{3, 512});
    const GatedRmsNormArgs good{.y = y.view(),
                                .z = z.view(),
                                .weight = weight.view(),
                                .num_groups = 4,
                                .epsilon = 1e-5f,
                                .out = out.view()};
    GatedRmsNormArgs bad = good;
    bad.num_groups = 3;
    EXPECT_THROW(backend->gated_rms_norm(bad), InternalError);
    bad = good;
    bad.out = z.view();
    EXPECT_THROW(backend->gated_rms_norm(bad), InternalError);
    bad = good;
    bad.z = z.view().columns(0, 511);
    EXPECT_THROW(backend->gated_rms_norm(bad), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
