#include "ops/router/router.h"

#include <cmath>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "ops/op_test_support.h"
#include "ops/router/router_cases.h"

namespace nemoforge::ops {
namespace {

struct Routing {
  Tensor ids;
  Tensor weights;
};

Routing run(Backend& backend, const RouterCase& c, ConstTensorView logits_host, ConstTensorView bias_host) {
  GuardedTensor logits(backend, logits_host, c.num_experts + c.logits_row_gap);
  GuardedTensor bias(backend, bias_host);
  GuardedTensor ids(backend, DType::kI32, {logits_host.size(0), c.top_k});
  GuardedTensor weights(backend, DType::kF32, {logits_host.size(0), c.top_k});
  backend.router({.logits = logits.view(),
                  .correction_bias = bias.view(),
                  .num_groups = c.num_groups,
                  .top_k_groups = c.top_k_groups,
                  .top_k = c.top_k,
                  .normalize = c.normalize,
                  .scale = c.scale,
                  .expert_ids = ids.view(),
                  .expert_weights = weights.view()});
  return {ids.download(), weights.download()};
}

TEST(Router, matches_the_reference) {
  ReferenceBackend reference;
  uint64_t seed = 700;
  for (const RouterCase& c : router_cases()) {
    SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(++seed));
    Rng rng(seed);
    const Tensor logits = random_tensor(rng, DType::kF32, {c.num_tokens, c.num_experts}, c.logit_scale);
    const Tensor bias = random_tensor(rng, DType::kF32, {c.num_experts}, c.logit_scale > 100 ? 0 : 0.2);
    const Routing expected = run(reference, c, logits.view(), bias.view());
    for (const auto& backend : backends_under_test()) {
      SCOPED_TRACE(backend->name());
      const Routing actual = run(*backend, c, logits.view(), bias.view());
      EXPECT_TRUE(bits_equal(actual.ids.view(), expected.ids.view()));
      EXPECT_TRUE(all_close(actual.weights.view(), expected.weights.view(),
                            tolerance_of(DType::kF32, OpClass::kElementwise)));
    }
  }
}

// Worked by hand: two groups of three. Group 0 has the single best expert, group 1 the better pair.
TEST(Router, groups_are_ranked_by_their_best_two) {
  const auto logit = [](double score) { return static_cast<float>(std::log(score / (1 - score))); };
  const float logits[] = {logit(0.9), logit(0.1), logit(0.1), logit(0.6), logit(0.2), logit(0.7)};
  const float bias[] = {0, 0, 0, 0, 0.3f, 0};
  const RouterCase c{.num_experts = 6, .num_groups = 2, .top_k_groups = 1, .top_k = 2, .scale = 2};
  auto backends = backends_under_test();
  backends.push_back(make_reference_backend());
  for (const auto& backend : backends) {
    SCOPED_TRACE(backend->name());
    const Routing routing = run(*backend, c, ConstTensorView(logits, {1, 6}), ConstTensorView(bias, {6}));
    const int32_t ids[] = {5, 3};
    EXPECT_TRUE(bits_equal(routing.ids.view(), ConstTensorView(ids, {1, 2})));
    const auto share = static_cast<float>(2 * 0.7 / 1.3);
    const float weights[] = {share, 2 - share};
    EXPECT_TRUE(all_close(routing.weights.view(), ConstTensorView(weights, {1, 2}), {1e-6, 0}));
  }
}

TEST(Router, the_bias_chooses_but_does_not_weigh) {
  const float logits[] = {0, 0, 0, 0};
  const float bias[] = {0, 1, 0, 2};
  const RouterCase c{.num_experts = 4, .num_groups = 1, .top_k_groups = 1, .top_k = 3};
  for (const auto& backend : backends_under_test()) {
    const Routing routing = run(*backend, c, ConstTensorView(logits, {1, 4}), ConstTensorView(bias, {4}));
    const int32_t ids[] = {3, 1, 0};
    EXPECT_TRUE(bits_equal(routing.ids.view(), ConstTensorView(ids, {1, 3})));
    const float third = 2.5f / 3;
    const float weights[] = {third, third, third};
    EXPECT_TRUE(all_close(routing.weights.view(), ConstTensorView(weights, {1, 3}), {1e-6, 0}));
  }
}

TEST(Router, nan_shows_in_the_weights_and_ids_stay_valid) {
  const RouterCase c;
  Rng rng(3);
  Tensor logits = random_tensor(rng, DType::kF32, {2, c.num_experts});
  for (int64_t i = 0; i < c.num_experts; ++i) logits.view().data<float>()[i] = NAN;
  logits.view().data<float>()[c.num_experts + 13] = NAN;
  const Tensor bias = random_tensor(rng, DType::kF32, {c.num_experts}, 0);
  auto backends = backends_under_test();
  backends.push_back(make_reference_backend());
  for (const auto& backend : backends) {
    SCOPED_TRACE(backend->name());
    const Routing routing = run(*backend, c, logits.view(), bias.view());
    for (int64_t row = 0; row < 2; ++row) {
      std::set<double> ids;
      for (int64_t k = 0; k < c.top_k; ++k) {
        const double id = load_element(routing.ids.view(), row, k);
        EXPECT_TRUE(id >= 0 && id < static_cast<double>(c.num_experts)) << id;
        ids.insert(id);
        EXPECT_TRUE(std::isnan(load_element(routing.weights.view(), row, k)));
      }
      EXPECT_EQ(ids.size(), static_cast<size_t>(c.top_k));
    }
  }
}

TEST(Router, rejects_what_the_contract_excludes) {
  Rng rng(4);
  for (const auto& backend : backends_under_test()) {
    for (const RouterCase& c : {RouterCase{.num_groups = 5}, RouterCase{.top_k_groups = 5},
                                RouterCase{.top_k_groups = 0}, RouterCase{.top_k = 13}}) {
      const Tensor logits = random_tensor(rng, DType::kF32, {c.num_tokens, c.num_experts});
      const Tensor bias = random_tensor(rng, DType::kF32, {c.num_experts});
      EXPECT_THROW((void)run(*backend, c, logits.view(), bias.view()), InternalError);
    }
  }
}

}  // namespace
}  // namespace nemoforge::ops
