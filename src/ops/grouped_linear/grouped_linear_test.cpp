#include "ops/grouped_linear/grouped_linear.h"

#include <cmath>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "ops/grouped_linear/grouped_linear_cases.h"
#include "ops/op_test_support.h"

namespace nemoforge::ops {
namespace {

Tensor make_offsets(const std::vector<int64_t>& group_rows) {
  Tensor offsets = make_host_tensor(DType::kI32, {static_cast<int64_t>(group_rows.size()) + 1});
  int32_t* values = offsets.view().data<int32_t>();
  values[0] = 0;
  for (size_t i = 0; i < group_rows.size(); ++i) {
    values[i + 1] = values[i] + static_cast<int32_t>(group_rows[i]);
  }
  return offsets;
}

// A case's inputs in a backend's memory.
class GroupedLinearInputs {
 public:
  GroupedLinearInputs(Backend& backend, const GroupedLinearCase& c, uint64_t seed)
      : backend_(backend), x_(backend, random_x(c, seed).view()) {
    // The groups' weights lie behind each other, as the loader stacks them.
    Rng rng(seed, 1);
    const double scale = 1 / std::sqrt(static_cast<double>(c.in_features));
    const auto num_groups = static_cast<int64_t>(c.group_rows.size());
    const Tensor weights =
        random_tensor(rng, c.weight_dtype, {num_groups * c.out_features, c.in_features}, scale);
    weights_.emplace(backend, weights.view());
    for (int64_t group = 0; group < num_groups; ++group) {
      layers_.push_back({weights_->view().rows(group * c.out_features, c.out_features), {}});
    }
  }

  // Rows first_row .. of x as groups of these sizes, which have the weights from first_group on.
  Tensor run(int64_t first_row, const std::vector<int64_t>& group_rows, size_t first_group, DType out_dtype) {
    const Tensor offsets_host = make_offsets(group_rows);
    const int64_t num_rows = offsets_host.view().data<int32_t>()[group_rows.size()];
    GuardedTensor offsets(backend_, offsets_host.view());
    GuardedTensor out(backend_, out_dtype, {num_rows, layers_[0].out_features()});
    backend_.grouped_linear({x_.view().rows(first_row, num_rows), offsets.view(),
                             std::span(layers_).subspan(first_group, group_rows.size()), out.view()});
    return out.download();
  }

  [[nodiscard]] const std::vector<LinearWeight>& layers() const { return layers_; }
  [[nodiscard]] TensorView x() { return x_.view(); }

 private:
  static Tensor random_x(const GroupedLinearCase& c, uint64_t seed) {
    int64_t num_rows = 0;
    for (const int64_t rows : c.group_rows) num_rows += rows;
    Rng rng(seed);
    return random_tensor(rng, c.x_dtype, {num_rows, c.in_features});
  }

  Backend& backend_;
  GuardedTensor x_;
  std::optional<GuardedTensor> weights_;
  std::vector<LinearWeight> layers_;
};

TEST(GroupedLinear, matches_the_reference) {
  ReferenceBackend reference;
  uint64_t seed = 200;
  for (const GroupedLinearCase& c : grouped_linear_cases()) {
    SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(++seed));
    const Tensor expected = GroupedLinearInputs(reference, c, seed).run(0, c.group_rows, 0, DType::kF32);
    for (const auto& backend : backends_under_test()) {
      SCOPED_TRACE(backend->name());
      const Tensor actual = GroupedLinearInputs(*backend, c, seed).run(0, c.group_rows, 0, c.out_dtype);
      EXPECT_TRUE(all_close(actual.view(), expected.view(), tolerance_of(c.out_dtype, OpClass::kSum)));
    }
  }
}

TEST(GroupedLinear, a_row_does_not_depend_on_its_group) {
  GroupedLinearCase c{.group_rows = {3, 150, 0, 40}, .out_features = 133};
  c.x_dtype = c.weight_dtype = c.out_dtype = DType::kBF16;
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    GroupedLinearInputs inputs(*backend, c, 300);
    const Tensor whole = inputs.run(0, c.group_rows, 0, DType::kBF16);
    for (const int64_t row : {0, 2, 3, 100, 152, 153, 192}) {
      SCOPED_TRACE(row);
      const size_t group = row < 3 ? 0 : row < 153 ? 1 : 3;
      const Tensor alone = inputs.run(row, {1}, group, DType::kBF16);
      EXPECT_TRUE(bits_equal(alone.view(), whole.view().rows(row, 1)));
    }
    const Tensor part = inputs.run(20, {75}, 1, DType::kBF16);
    EXPECT_TRUE(bits_equal(part.view(), whole.view().rows(20, 75)));
  }
}

// The same where groups have so many rows that a GPU takes tensor cores.
TEST(GroupedLinear, a_row_of_a_large_group_does_not_depend_on_the_others) {
  GroupedLinearCase c{.group_rows = {3, 300, 0, 40}, .in_features = 136, .out_features = 133};
  c.x_dtype = c.weight_dtype = c.out_dtype = DType::kBF16;
  for (const auto& backend : backends_under_test()) {
    SCOPED_TRACE(backend->name());
    GroupedLinearInputs inputs(*backend, c, 301);
    const Tensor whole = inputs.run(0, c.group_rows, 0, DType::kBF16);
    for (const int64_t num_rows : {75, 130}) {
      const Tensor part = inputs.run(20, {num_rows}, 1, DType::kBF16);
      EXPECT_TRUE(bits_equal(part.view(), whole.view().rows(20, num_rows)));
    }
  }
}

TEST(GroupedLinear, rejects_what_the_contract_excludes) {
  for (const auto& backend : backends_under_test()) {
    GroupedLinearInputs inputs(*backend, {.group_rows = {2, 2}}, 1);
    GuardedTensor out(*backend, DType::kF32, {4, 70});
    const auto call = [&](const std::vector<int32_t>& offsets, std::span<const LinearWeight> weights) {
      Tensor host = make_host_tensor(DType::kI32, {static_cast<int64_t>(offsets.size())});
      std::copy(offsets.begin(), offsets.end(), host.view().data<int32_t>());
      GuardedTensor device(*backend, host.view());
      backend->grouped_linear({inputs.x(), device.view(), weights, out.view()});
    };
    EXPECT_NO_THROW(call({0, 2, 4}, inputs.layers()));
    EXPECT_THROW(call({0, 2, 4}, {}), InternalError);
    EXPECT_THROW(call({0, 2, 4, 4}, inputs.layers()), InternalError);
    if (!backend->shares_host_memory()) continue;  // offsets in device memory are not read by the host
    EXPECT_THROW(call({0, 5, 4}, inputs.layers()), InternalError);
    EXPECT_THROW(call({1, 2, 4}, inputs.layers()), InternalError);
    EXPECT_THROW(call({0, 2, 3}, inputs.layers()), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
