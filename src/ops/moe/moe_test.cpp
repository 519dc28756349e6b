#include "ops/moe/moe.h"

#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "ops/moe/moe_cases.h"
#include "ops/op_test_support.h"

namespace nemoforge::ops {
namespace {

// Distinct experts within each token.
Tensor random_expert_ids(Rng& rng, const MoeCase& c) {
  Tensor ids = make_host_tensor(DType::kI32, {c.num_tokens, c.top_k});
  std::vector<int32_t> experts(static_cast<size_t>(c.num_experts));
  std::iota(experts.begin(), experts.end(), 0);
  for (int64_t token = 0; token < c.num_tokens; ++token) {
    for (int64_t k = 0; k < c.top_k; ++k) {
      const int64_t other = k + static_cast<int64_t>(rng.below(static_cast<uint64_t>(c.num_experts - k)));
      std::swap(experts[static_cast<size_t>(k)], experts[static_cast<size_t>(other)]);
      ids.view().data<int32_t>()[token * c.top_k + k] = experts[static_cast<size_t>(k)];
    }
  }
  return ids;
}

struct Dispatched {
  Tensor offsets;
  Tensor row_tokens;
  Tensor row_of;
  Tensor out;
};

Dispatched dispatch(Backend& backend, const MoeCase& c, ConstTensorView x_host, ConstTensorView ids_host) {
  const int64_t row_stride = c.hidden_size + c.row_gap;
  GuardedTensor x(backend, x_host, row_stride);
  GuardedTensor ids(backend, ids_host);
  GuardedTensor offsets(backend, DType::kI32, {c.num_experts + 1});
  GuardedTensor row_tokens(backend, DType::kI32, {c.num_tokens * c.top_k});
  GuardedTensor row_of(backend, DType::kI32, {c.num_tokens, c.top_k});
  GuardedTensor out(backend, c.dtype, {c.num_tokens * c.top_k, c.hidden_size}, row_stride);
  backend.moe_dispatch(
      {x.view(), ids.view(), c.num_experts, offsets.view(), row_tokens.view(), row_of.view(), out.view()});
  return {offsets.download(), row_tokens.download(), row_of.download(), out.download()};
}

TEST(MoeDispatch, equals_the_reference) {
  ReferenceBackend reference;
  uint64_t seed = 800;
  for (const MoeCase& c : moe_cases()) {
    SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(++seed));
    Rng rng(seed);
    const Tensor x = random_tensor(rng, c.dtype, {c.num_tokens, c.hidden_size});
    const Tensor ids = random_expert_ids(rng, c);
    const Dispatched expected = dispatch(reference, c, x.view(), ids.view());
    for (const auto& backend : backends_under_test()) {
      SCOPED_TRACE(backend->name());
      const Dispatched actual = dispatch(*backend, c, x.view(), ids.view());
      EXPECT_TRUE(bits_equal(actual.offsets.view(), expected.offsets.view()));
      EXPECT_TRUE(bits_equal(actual.row_tokens.view(), expected.row_tokens.view()));
      EXPECT_TRUE(bits_equal(actual.row_of.view(), expected.row_of.view()));
      EXPECT_TRUE(bits_equal(actual.out.view(), expected.out.view()));
    }
  }
}

TEST(MoeDispatch, rows_of_an_expert_keep_the_order_of_tokens) {
  const int32_t ids[] = {2, 0, 0, 2, 2, 1};
  const float x[] = {10, 20, 30};
  const MoeCase c{.num_tokens = 3, .num_experts = 4, .top_k = 2, .hidden_size = 1};
  auto backends = backends_under_test();
  backends.push_back(make_reference_backend());
  for (const auto& backend : backends) {
    SCOPED_TRACE(backend->name());
    const Dispatched d = dispatch(*backend, c, ConstTensorView(x, {3, 1}), ConstTensorView(ids, {3, 2}));
    const int32_t offsets[] = {0, 2, 3, 6, 6};
    const int32_t row_tokens[] = {0, 1, 2, 0, 1, 2};
    const int32_t row_of[] = {3, 0, 1, 4, 5, 2};
    const float rows[] = {10, 20, 30, 10, 20, 30};
    EXPECT_TRUE(bits_equal(d.offsets.view(), ConstTensorView(offsets, {5})));
    EXPECT_TRUE(bits_equal(d.row_tokens.view(), ConstTensorView(row_tokens, {6})));
    EXPECT_TRUE(bits_equal(d.row_of.view(), ConstTensorView(row_of, {3, 2})));
    EXPECT_TRUE(bits_equal(d.out.view(), ConstTensorView(rows, {6, 1})));
  }
}

struct CombineInputs {
  Tensor expert_out;
  Tensor row_of;
  Tensor weights;
  Tensor shared;
};

Tensor combine(Backend& backend, const MoeCase& c, const CombineInputs& inputs, DType out_dtype,
               bool shared_is_out) {
  const int64_t row_stride = c.hidden_size + c.row_gap;
  GuardedTensor expert_out(backend, inputs.expert_out.view(), row_stride);
  GuardedTensor row_of(backend, inputs.row_of.view());
  GuardedTensor weights(backend, inputs.weights.view());
  GuardedTensor shared(backend, inputs.shared.view(), row_stride);
  GuardedTensor out(backend, out_dtype, {c.num_tokens, c.hidden_size}, row_stride);
  const TensorView shared_view = c.shared ? shared.view() : TensorView();
  backend.moe_combine({expert_out.view(), row_of.view(), weights.view(), shared_view,
                       shared_is_out ? shared_view : out.view()});
  return shared_is_out ? shared.download() : out.download();
}

TEST(MoeCombine, matches_the_reference_in_place_or_not) {
  ReferenceBackend reference;
  uint64_t seed = 850;
  for (const MoeCase& c : moe_cases()) {
    SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(++seed));
    Rng rng(seed);
    CombineInputs inputs;
    inputs.expert_out = random_tensor(rng, c.dtype, {c.num_tokens * c.top_k, c.hidden_size});
    const Tensor x = random_tensor(rng, c.dtype, {c.num_tokens, c.hidden_size});
    const Tensor ids = random_expert_ids(rng, c);
    inputs.row_of = dispatch(reference, c, x.view(), ids.view()).row_of;
    inputs.weights = random_tensor(rng, DType::kF32, {c.num_tokens, c.top_k}, 0.3, 0.4);
    inputs.shared = random_tensor(rng, c.dtype, {c.num_tokens, c.hidden_size});
    const Tensor expected = combine(reference, c, inputs, DType::kF32, false);
    for (const auto& backend : backends_under_test()) {
      SCOPED_TRACE(backend->name());
      const Tensor actual = combine(*backend, c, inputs, c.out_dtype, false);
      EXPECT_TRUE(all_close(actual.view(), expected.view(), tolerance_of(c.out_dtype, OpClass::kSum)));
      if (!c.shared || c.dtype != c.out_dtype) continue;
      EXPECT_TRUE(bits_equal(combine(*backend, c, inputs, c.out_dtype, true).view(), actual.view()));
    }
  }
}

TEST(Moe, rejects_what_the_contract_excludes) {
  float rows[12] = {};
  float weights[6] = {};
  float out[6] = {};
  int32_t offsets[5];
  int32_t row_tokens[6];
  int32_t row_of[6];
  int32_t ids[] = {0, 1, 2, 3, 0, 4};
  for (const auto& backend : backends_under_test()) {
    const ConstTensorView x(rows, {3, 2});
    float sorted[12];
    const auto dispatch_to = [&](int64_t num_experts, TensorView destination) {
      backend->moe_dispatch({x, ConstTensorView(ids, {3, 2}), num_experts,
                             TensorView(offsets, {num_experts + 1}), TensorView(row_tokens, {6}),
                             TensorView(row_of, {3, 2}), destination});
    };
    EXPECT_THROW(dispatch_to(1, TensorView(sorted, {6, 2})), InternalError);
    EXPECT_THROW(dispatch_to(4, TensorView(sorted, {5, 2})), InternalError);
    EXPECT_THROW(dispatch_to(4, TensorView(rows, {6, 2})), InternalError);
    const ConstTensorView expert_weights(weights, {3, 2});
    int32_t bad_rows[] = {0, 1, 2, 3, 4, 6};
    const ConstTensorView bad_row_of(bad_rows, {3, 2});
    const TensorView total(out, {3, 2});
    EXPECT_THROW(backend->moe_combine({ConstTensorView(rows, {5, 2}), bad_row_of, expert_weights, {}, total}),
                 InternalError);
    if (!backend->shares_host_memory()) continue;  // indices in device memory are not read by the host
    EXPECT_THROW(dispatch_to(4, TensorView(sorted, {6, 2})), InternalError);
    EXPECT_THROW(backend->moe_combine({ConstTensorView(rows, {6, 2}), bad_row_of, expert_weights, {}, total}),
                 InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
