#include "ops/linear/linear.h"

#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "ops/cpu_backend.h"
#include "ops/linear/dot_block.h"
#include "ops/linear/linear_cases.h"
#include "ops/op_test_support.h"

namespace nemoforge::ops {
namespace {

struct LinearInputs {
  Tensor x;
  Tensor weight;
  Tensor bias;
};

// Weights are scaled so that outputs are of order 1.
LinearInputs make_inputs(const LinearCase& c, uint64_t seed) {
  Rng rng(seed);
  const double scale = 1 / std::sqrt(static_cast<double>(c.in_features));
  LinearInputs inputs;
  inputs.x = random_tensor(rng, c.x_dtype, {c.num_rows, c.in_features});
  inputs.weight = random_tensor(rng, c.weight_dtype, {c.out_features, c.in_features}, scale);
  if (c.bias) inputs.bias = random_tensor(rng, c.weight_dtype, {c.out_features});
  return inputs;
}

Tensor run(Backend& backend, const LinearCase& c, LinearInputs& inputs, DType out_dtype) {
  GuardedTensor x(backend, inputs.x.view(), c.in_features + c.x_row_gap);
  GuardedTensor weight(backend, inputs.weight.view());
  GuardedTensor out(backend, out_dtype, {c.num_rows, c.out_features}, c.out_features + c.out_row_gap);
  LinearWeight layer{.weight = weight.view(), .bias = {}};
  if (!c.bias) {
    backend.linear({x.view(), &layer, c.num_decode_rows, out.view()});
    return out.download();
  }
  GuardedTensor bias(backend, inputs.bias.view());
  layer.bias = bias.view();
  backend.linear({x.view(), &layer, c.num_decode_rows, out.view()});
  return out.download();
}

TEST(Linear, matches_the_reference) {
  ReferenceBackend reference;
  uint64_t seed = 100;
  for (const LinearCase& c : linear_cases()) {
    SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(++seed));
    LinearInputs inputs = make_inputs(c, seed);
    const Tensor expected = run(reference, c, inputs, DType::kF32);
    for (const auto& backend : backends_under_test()) {
      SCOPED_TRACE(backend->name());
      const Tensor actual = run(*backend, c, inputs, c.out_dtype);
      EXPECT_TRUE(all_close(actual.view(), expected.view(), tolerance_of(c.out_dtype, OpClass::kSum)));
    }
  }
}

TEST(Linear, reference_is_the_formula) {
  float x[] = {1, 2, 3, 4};
  float w[] = {1, 0, -1, 2, 0.5f, 3};
  float b[] = {10, 20, 30};
  float out[6];
  const LinearWeight weight{ConstTensorView(w, {3, 2}), ConstTensorView(b, {3})};
  ReferenceBackend().linear({ConstTensorView(x, {2, 2}), &weight, 0, TensorView(out, {2, 3})});
  const float expected[] = {11, 23, 36.5f, 13, 25, 43.5f};
  EXPECT_TRUE(bits_equal(ConstTensorView(out, {6}), ConstTensorView(expected, {6})));
}

// The portable kernels run on machines whose bf16 products take the other path, and the other way round.
TEST(Linear, bf16_and_f32_kernels_agree) {
  Rng rng(7);
  const Tensor x = random_tensor(rng, DType::kBF16, {9, 259});
  const Tensor weight = random_tensor(rng, DType::kBF16, {21, 259}, 1 / 16.0);
  Tensor outs[2] = {make_host_tensor(DType::kF32, {9, 21}), make_host_tensor(DType::kF32, {9, 21})};
  const DotBlockFunction functions[2] = {choose_dot_block(DType::kBF16, DType::kBF16),
                                         choose_dot_block_f32(DType::kBF16, DType::kBF16)};
  for (size_t i = 0; i < 2; ++i) {
    DotBlock block{.x = x.view().raw(), .x_stride = 259, .num_rows = 9};
    block.weight = weight.view().raw();
    block.num_outs = 21;
    block.in_features = 259;
    block.out = outs[i].view().raw();
    block.out_stride = 21;
    functions[i](block);
  }
  EXPECT_TRUE(all_close(outs[0].view(), outs[1].view(), tolerance_of(DType::kF32, OpClass::kSum)));
}

// Bit for bit where the backend promises that, else within what any order of summation may give.
testing::AssertionResult same(const Backend& backend, ConstTensorView actual, ConstTensorView expected) {
  if (backend.batch_invariant()) return bits_equal(actual, expected);
  // Both are rounded.
  const Tolerance once = tolerance_of(actual.dtype(), OpClass::kSum);
  return all_close(actual, expected, {2 * once.absolute, 2 * once.relative});
}

TEST(Linear, a_row_does_not_depend_on_the_others) {
  Rng rng(11);
  constexpr int64_t kRows = 270;
  constexpr int64_t kIn = 299;
  constexpr int64_t kOut = 133;
  for (const auto& backend : backends_under_test()) {
    for (const DType x_dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(std::string(backend->name()) + " " + std::string(dtype_name(x_dtype)));
      const Tensor x = random_tensor(rng, x_dtype, {kRows, kIn});
      const Tensor w = random_tensor(rng, DType::kBF16, {kOut, kIn}, 0.05);
      GuardedTensor x_device(*backend, x.view());
      GuardedTensor w_device(*backend, w.view());
      const LinearWeight weight{w_device.view(), {}};
      const auto rows = [&](int64_t begin, int64_t count, int64_t num_decode) {
        GuardedTensor out(*backend, x_dtype, {count, kOut});
        backend->linear({x_device.view().rows(begin, count), &weight, num_decode, out.view()});
        return out.download();
      };
      const Tensor prefill = rows(0, kRows, 0);
      const Tensor decode = rows(0, kRows, kRows);
      for (const int64_t count : {1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 64, 65, 130}) {
        for (const int64_t begin : {int64_t{0}, int64_t{5}, kRows - count}) {
          SCOPED_TRACE(std::to_string(count) + " rows at " + std::to_string(begin));
          ASSERT_TRUE(same(*backend, rows(begin, count, 0).view(), prefill.view().rows(begin, count)));
          ASSERT_TRUE(same(*backend, rows(begin, count, count).view(), decode.view().rows(begin, count)));
        }
      }
    }
  }
}

TEST(Linear, bits_do_not_depend_on_the_number_of_threads) {
  Rng rng(12);
  const Tensor x = random_tensor(rng, DType::kBF16, {5, 512});
  const Tensor w = random_tensor(rng, DType::kBF16, {700, 512}, 0.05);
  const LinearWeight weight{w.view(), {}};
  std::vector<Tensor> outs;
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    outs.push_back(make_host_tensor(DType::kBF16, {5, 700}));
    CpuBackend(pool).linear({x.view(), &weight, 0, outs.back().view()});
  }
  EXPECT_TRUE(bits_equal(outs[1].view(), outs[0].view()));
  EXPECT_TRUE(bits_equal(outs[2].view(), outs[0].view()));
}

TEST(Linear, rejects_what_the_contract_excludes) {
  float x[12] = {};
  float w[12] = {};
  int32_t integers[12] = {};
  float out[12] = {};
  const LinearWeight weight{ConstTensorView(w, {3, 4}), {}};
  const ConstTensorView x_view(x, {2, 4});
  const TensorView out_view(out, {2, 3});
  for (const auto& backend : backends_under_test()) {
    EXPECT_THROW(backend->linear({x_view, nullptr, 0, out_view}), InternalError);
    EXPECT_THROW(backend->linear({ConstTensorView(x, {2, 3}), &weight, 0, out_view}), InternalError);
    EXPECT_THROW(backend->linear({x_view, &weight, 3, out_view}), InternalError);
    EXPECT_THROW(backend->linear({x_view, &weight, 0, TensorView(out, {3, 3})}), InternalError);
    EXPECT_THROW(backend->linear({x_view, &weight, 0, TensorView(x, {2, 3})}), InternalError);
    const LinearWeight integer_weight{ConstTensorView(integers, {3, 4}), {}};
    EXPECT_THROW(backend->linear({x_view, &integer_weight, 0, out_view}), InternalError);
    const LinearWeight long_bias{ConstTensorView(w, {3, 4}), ConstTensorView(x, {4})};
    EXPECT_THROW(backend->linear({x_view, &long_bias, 0, out_view}), InternalError);
  }
}

}  // namespace
}  // namespace nemoforge::ops
