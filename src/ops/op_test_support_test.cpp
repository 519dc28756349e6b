#include "ops/op_test_support.h"

#include <cmath>
#include <cstdlib>

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

namespace nemoforge::ops {
namespace {

TEST(OpTestSupport, an_unknown_backend_name_fails) {
  ASSERT_EQ(setenv("NEMOFORGE_BACKEND", "gpuu", 1), 0);
  EXPECT_THROW((void)backends_under_test(), InternalError);
  ASSERT_EQ(setenv("NEMOFORGE_BACKEND", "reference", 1), 0);
  EXPECT_EQ(backends_under_test().at(0)->name(), "reference");
  ASSERT_EQ(unsetenv("NEMOFORGE_BACKEND"), 0);
}

TEST(OpTestSupport, nan_and_shape_never_pass) {
  Rng rng(1);
  Tensor expected = random_tensor(rng, DType::kF32, {3, 5});
  Tensor actual = make_host_tensor(DType::kF32, {3, 5});
  for (int64_t i = 0; i < 15; ++i) {
    actual.view().data<float>()[i] = expected.view().data<float>()[i] + 0.5f;
  }
  EXPECT_FALSE(all_close(actual.view(), expected.view(), {0.4, 0}));
  EXPECT_TRUE(all_close(actual.view(), expected.view(), {0.6, 0}));
  actual.view().data<float>()[7] = NAN;
  EXPECT_FALSE(all_close(actual.view(), expected.view(), {0.6, 0}));
  EXPECT_FALSE(bits_equal(actual.view(), actual.view()));
  EXPECT_FALSE(all_close(actual.view(), expected.view().reshape({5, 3}), {10, 0}));
}

// EXPECT_NONFATAL_FAILURE's statement cannot see local variables, hence the parameter by template.
template <int64_t offset>
void write_at() {
  ReferenceBackend backend;
  GuardedTensor tensor(backend, DType::kBF16, {2, 4}, 8);
  tensor.view().data<Bf16>()[offset] = Bf16(1.0f);
  (void)tensor.download();
}

TEST(OpTestSupport, writes_outside_a_tensor_are_found) {
  EXPECT_NONFATAL_FAILURE(write_at<-1>(), "guard byte");  // before
  EXPECT_NONFATAL_FAILURE(write_at<4>(), "guard byte");   // between rows
  EXPECT_NONFATAL_FAILURE(write_at<12>(), "guard byte");  // after
  write_at<3>();
}

TEST(OpTestSupport, unwritten_outputs_are_nan) {
  ReferenceBackend backend;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    GuardedTensor tensor(backend, dtype, {2, 4}, 8);
    EXPECT_TRUE(std::isnan(load_element(tensor.download().view(), 1, 3)));
  }
}

}  // namespace
}  // namespace nemoforge::ops
