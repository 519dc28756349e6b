#include "ops/lora/lora.h"

#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "ops/lora/lora_cases.h"
#include "ops/op_test_support.h"

namespace nemoforge::ops {
namespace {

// A case's adapters in a backend's memory.
class Adapters {
 public:
  Adapters(Backend& backend, const LoraCase& c, uint64_t seed) {
    Rng rng(seed, 1);
    for (const int64_t rank : c.ranks) {
      const double a_scale = 1 / std::sqrt(static_cast<double>(c.in_features));
      const double b_scale = 1 / std::sqrt(static_cast<double>(rank));
      a_.emplace_back(backend, random_tensor(rng, c.weight_dtype, {rank, c.in_features}, a_scale).view());
      b_.emplace_back(backend, random_tensor(rng, c.weight_dtype, {c.out_features, rank}, b_scale).view());
    }
    for (size_t i = 0; i < a_.size(); ++i) weights_.push_back({a_[i].view(), b_[i].view(), 0.5f});
    for (const LoraCaseRun& run : c.runs) runs_.push_back({run.begin, run.end, &weights_[run.adapter_idx]});
  }

  [[nodiscard]] std::span<const LoraRun> runs() const { return runs_; }
  [[nodiscard]] const LoraWeight& weight(size_t i) const { return weights_[i]; }

 private:
  std::vector<GuardedTensor> a_;
  std::vector<GuardedTensor> b_;
  std::vector<LoraWeight> weights_;
  std::vector<LoraRun> runs_;
};

Tensor to_f32(ConstTensorView values) {
  Tensor copy = make_host_tensor(DType::kF32, values.shape());
  for (int64_t row = 0; row < values.size(0); ++row) {
    for (int64_t column = 0; column < values.size(1); ++column) {
      store_element(copy.view(), row, column, load_element(values, row, column));
    }
  }
  return copy;
}

struct LoraData {
  Tensor x;
  Tensor base;  // out before the call
};

LoraData make_data(const LoraCase& c, uint64_t seed) {
  Rng rng(seed);
  LoraData data;
  data.x = random_tensor(rng, c.x_dtype, {c.num_rows, c.in_features});
  data.base = random_tensor(rng, c.out_dtype, {c.num_rows, c.out_features});
  return data;
}

Tensor run(Backend& backend, const LoraCase& c, const LoraData& data, ConstTensorView base, uint64_t seed) {
  const Adapters adapters(backend, c, seed);
  GuardedTensor x(backend, data.x.view(), c.in_features + c.x_row_gap);
  GuardedTensor out(backend, base, c.out_features + c.out_row_gap);
  backend.lora_add({.x = x.view(), .runs = adapters.runs(), .out = out.view()});
  return out.download();
}

TEST(LoraAdd, matches_the_reference) {
  ReferenceBackend reference;
  uint64_t seed = 400;
  for (const LoraCase& c : lora_cases()) {
    SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(++seed));
    const LoraData data = make_data(c, seed);
    const Tensor base_f32 = to_f32(data.base.view());
    const Tensor expected = run(reference, c, data, base_f32.view(), seed);
    for (const auto& backend : backends_under_test()) {
      SCOPED_TRACE(backend->name());
      const Tensor actual = run(*backend, c, data, data.base.view(), seed);
      EXPECT_TRUE(all_close(actual.view(), expected.view(), tolerance_of(c.out_dtype, OpClass::kSum)));
    }
  }
}

TEST(LoraAdd, rows_outside_every_run_keep_their_bits) {
  const LoraCase c;
  const LoraData data = make_data(c, 3);
  for (const auto& backend : backends_under_test()) {
    const Tensor actual = run(*backend, c, data, data.base.view(), 3);
    for (const int64_t row : {0, 9, 12}) {
      EXPECT_TRUE(bits_equal(actual.view().rows(row, 1), data.base.view().rows(row, 1))) << row;
    }
  }
}

TEST(LoraAdd, a_row_depends_on_itself_and_its_adapter) {
  LoraCase c{.num_rows = 40, .ranks = {16}, .runs = {{0, 40, 0}}};
  c.x_dtype = c.out_dtype = DType::kBF16;
  const LoraData data = make_data(c, 4);
  for (const auto& backend : backends_under_test()) {
    const Tensor whole = run(*backend, c, data, data.base.view(), 4);
    c.runs = {{0, 1, 0}, {1, 8, 0}, {8, 40, 0}};
    const Tensor split = run(*backend, c, data, data.base.view(), 4);
    EXPECT_TRUE(bits_equal(split.view(), whole.view()));
  }
}

TEST(LoraAdd, rejects_what_the_contract_excludes) {
  for (const auto& backend : backends_under_test()) {
    LoraCase c;
    const LoraData data = make_data(c, 5);
    c.runs = {{0, 5, 0}, {4, 6, 1}};
    EXPECT_THROW((void)run(*backend, c, data, data.base.view(), 5), InternalError);
    c.runs = {{9, 11, 0}, {0, 2, 0}, {1, 3, 0}};
    EXPECT_THROW((void)run(*backend, c, data, data.base.view(), 5), InternalError);
    c.runs = {{10, 14, 0}};
    EXPECT_THROW((void)run(*backend, c, data, data.base.view(), 5), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
