#include "ops/relu2/relu2.h"

#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "ops/op_test_support.h"
#include "ops/relu2/relu2_cases.h"

namespace nemoforge::ops {
namespace {

Tensor run(Backend& backend, ConstTensorView x_host, int64_t row_gap, bool in_place) {
  const int64_t row_stride = x_host.size(1) + row_gap;
  GuardedTensor x(backend, x_host, row_stride);
  if (in_place) {
    backend.relu2({x.view(), x.view()});
    return x.download();
  }
  GuardedTensor out(backend, x_host.dtype(), x_host.shape(), row_stride);
  backend.relu2({x.view(), out.view()});
  return out.download();
}

TEST(Relu2, matches_the_reference_in_place_or_not) {
  ReferenceBackend reference;
  uint64_t seed = 600;
  for (const Relu2Case& c : relu2_cases()) {
    SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(++seed));
    Rng rng(seed);
    const Tensor x = random_tensor(rng, c.dtype, {c.num_rows, c.features});
    const Tensor expected = run(reference, x.view(), c.row_gap, false);
    for (const auto& backend : backends_under_test()) {
      SCOPED_TRACE(backend->name());
      const Tensor actual = run(*backend, x.view(), c.row_gap, false);
      EXPECT_TRUE(all_close(actual.view(), expected.view(), tolerance_of(c.dtype, OpClass::kElementwise)));
      EXPECT_TRUE(bits_equal(run(*backend, x.view(), c.row_gap, true).view(), actual.view()));
    }
  }
}

TEST(Relu2, special_values) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float x[] = {-2, -0.0f, 0, 3, NAN, -NAN, kInfinity, -kInfinity, 1e30f};
  const float expected[] = {0, 0, 0, 9, NAN, NAN, kInfinity, 0, kInfinity};
  auto backends = backends_under_test();
  backends.push_back(make_reference_backend());
  for (const auto& backend : backends) {
    SCOPED_TRACE(backend->name());
    const Tensor actual = run(*backend, ConstTensorView(x, {1, 9}), 0, false);
    EXPECT_TRUE(all_close(actual.view(), ConstTensorView(expected, {1, 9}), {}));
  }
}

TEST(Relu2, rejects_what_the_contract_excludes) {
  float x[8] = {};
  float out[8] = {};
  for (const auto& backend : backends_under_test()) {
    EXPECT_THROW(backend->relu2({ConstTensorView(x, {2, 3}), TensorView(out, {2, 4})}), InternalError);
    EXPECT_THROW(backend->relu2({ConstTensorView(x, {1, 4}), TensorView(x + 1, {1, 4})}), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
