#include "verify/operator_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

using ::testing::ElementsAre;

TEST(operator_policy, tells_layout_from_computing) {
  for (const char* name :
       {"aten::empty_like", "aten::view", "aten::copy_", "aten::_to_copy", "aten::zeros", "aten::t"}) {
    EXPECT_EQ(operator_kind(name), OperatorKind::kLayout) << name;
  }
  for (const char* name : {"aten::mm", "aten::relu_", "aten::sum", "aten::equal", "aten::something_new"}) {
    EXPECT_EQ(operator_kind(name), OperatorKind::kCompute) << name;
  }
  EXPECT_EQ(operator_kind("aten::randn"), OperatorKind::kRandom);
}

TEST(operator_policy, many_spellings_are_one_class) {
  for (const char* name : {"aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "aten::einsum"}) {
    EXPECT_EQ(operator_class(name), "matmul") << name;
  }
  EXPECT_EQ(operator_class("aten::mkldnn_convolution"), "convolution");
  EXPECT_EQ(operator_class("aten::_softmax"), "softmax");
  EXPECT_EQ(operator_class("aten::_log_softmax"), "log_softmax");
  EXPECT_EQ(operator_class("aten::relu_"), "relu");
  EXPECT_EQ(operator_class("aten::leaky_relu"), "leaky_relu");
}

TEST(operator_policy, kernels_alone_are_all_triton) {
  EXPECT_EQ(judge_work({{"aten::mm", 1}}, {{"aten::empty", 1}, {"aten::view", 3}}).share,
            WorkShare::kAllTriton);
}

TEST(operator_policy, keeping_a_part_of_the_reference_is_partial) {
  const WorkJudgement work = judge_work({{"aten::convolution", 1}, {"aten::hardswish", 1}, {"aten::mul", 1}},
                                        {{"aten::mkldnn_convolution", 1}, {"aten::empty_like", 1}});
  EXPECT_EQ(work.share, WorkShare::kPartial);
  EXPECT_THAT(work.operators, ElementsAre("convolution"));
}

TEST(operator_policy, all_of_the_reference_is_nothing_replaced) {
  EXPECT_EQ(judge_work({{"aten::mm", 1}}, {{"aten::bmm", 1}}).share, WorkShare::kNothingReplaced);
  EXPECT_EQ(judge_work({{"aten::mm", 1}, {"aten::relu", 1}}, {{"aten::mm", 1}, {"aten::relu_", 1}}).share,
            WorkShare::kNothingReplaced);
}

TEST(operator_policy, other_operators_and_more_of_one_are_foreign) {
  EXPECT_EQ(judge_work({{"aten::mm", 1}}, {{"aten::mul", 1}, {"aten::sum", 1}}).share, WorkShare::kForeign);
  EXPECT_EQ(judge_work({{"aten::mm", 1}, {"aten::relu", 2}}, {{"aten::mm", 2}}).share, WorkShare::kForeign);
}

TEST(operator_policy, bias_may_be_added_apart) {
  EXPECT_EQ(judge_work({{"aten::addmm", 1}, {"aten::relu", 2}}, {{"aten::mm", 1}, {"aten::add", 1}}).share,
            WorkShare::kPartial);
}

}  // namespace
}  // namespace nemoforge::verify
