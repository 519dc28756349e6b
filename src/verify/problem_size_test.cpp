#include "verify/problem_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "verify/problem_survey.h"

namespace nemoforge::verify {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kGib = int64_t{1} << 30;

// A float32 elementwise problem of n elements.
ProblemMeasurement elementwise(int64_t n) {
  ProblemNeeds needs;
  needs.input_elements = needs.output_elements = n;
  needs.input_bytes = needs.output_bytes = needs.intermediate_bytes = 4 * n;
  needs.elements = 2 * n;
  ProblemMeasurement measurement;
  measurement.judged = needs;
  return measurement;
}

SizeLimits limits(int64_t memory_bytes, double timeout_s) {
  return {.memory_bytes = memory_bytes, .timeout_s = timeout_s};
}

TEST(problem_size, a_small_problem_is_ok) {
  const SizeJudgement size = judge_size(elementwise(1 << 17), limits(8 * kGib, 240));
  EXPECT_EQ(size.size_class, SizeClass::kOk) << size.reason;
  EXPECT_FALSE(size.too_large());
  EXPECT_TRUE(size.reason.empty());
}

TEST(problem_size, what_does_not_fit_the_protocol_is_too_large_for_any_memory) {
  const SizeJudgement size = judge_size(elementwise(kGib / 4), limits(4096 * kGib, 1e9));
  EXPECT_EQ(size.size_class, SizeClass::kTooLargeForMemory);
  EXPECT_THAT(size.reason, HasSubstr("two sets of inputs and the outputs take 3.0 GiB, more than 1.0 GiB"));
  ProblemMeasurement wide = elementwise(16);
  wide.judged->state_bytes = 2 * kGib;
  EXPECT_THAT(judge_size(wide, limits(4096 * kGib, 1e9)).reason,
              HasSubstr("parameters and buffers take 2.0 GiB"));
}

TEST(problem_size, the_memory_limit_counts_the_judges_copies) {
  ProblemMeasurement wide = elementwise(16);
  wide.judged->state_bytes = kGib / 2;
  EXPECT_EQ(judge_size(wide, limits(8 * kGib, 240)).size_class, SizeClass::kOk);
  EXPECT_EQ(judge_size(wide, limits(5 * kGib, 240)).size_class, SizeClass::kTooLargeForMemory);
}

TEST(problem_size, many_elements_or_products_are_too_large_for_a_cpu) {
  EXPECT_EQ(judge_size(elementwise(50 << 20), limits(64 * kGib, 240)).size_class, SizeClass::kTooLargeForCpu);
  ProblemMeasurement products = elementwise(1 << 17);
  products.judged->flops = int64_t{1} << 32;
  const SizeJudgement size = judge_size(products, limits(8 * kGib, 240));
  EXPECT_EQ(size.size_class, SizeClass::kTooLargeForCpu);
  EXPECT_THAT(size.reason, HasSubstr("interpreter"));
  EXPECT_EQ(judge_size(products, limits(8 * kGib, 1000)).size_class, SizeClass::kOk);
}

TEST(problem_size, a_reference_that_takes_too_long_is_said_to_be_it) {
  ProblemMeasurement slow = elementwise(16);
  slow.judged->elements = int64_t{8} << 30;
  const SizeJudgement size = judge_size(slow, limits(8 * kGib, 240));
  EXPECT_EQ(size.size_class, SizeClass::kTooLargeForCpu);
  EXPECT_THAT(size.reason, HasSubstr("the reference alone"));
}

TEST(problem_size, a_failed_measurement_keeps_its_reason) {
  ProblemMeasurement failed;
  failed.failure = SizeClass::kDoesNotBuild;
  failed.failure_reason = "NameError: x";
  const SizeJudgement size = judge_size(failed, limits(8 * kGib, 240));
  EXPECT_EQ(size.size_class, SizeClass::kDoesNotBuild);
  EXPECT_EQ(size.reason, "NameError: x");
}

TEST(problem_size, an_answer_of_the_wrong_form_is_no_size) {
  EXPECT_EQ(judge_size(read_measurement({{"judged", 3}}), limits(8 * kGib, 240)).size_class,
            SizeClass::kDoesNotBuild);
  const ProblemMeasurement read =
      read_measurement({{"judged", {{"flops", -5}, {"input_bytes", "many"}, {"dtypes", {"float32", 3}}}},
                        {"overrides", {{"n", 3}}}});
  ASSERT_TRUE(read.judged.has_value());
  EXPECT_EQ(read.judged->flops, 0);
  EXPECT_EQ(read.judged->input_bytes, 0);
  EXPECT_THAT(read.judged->dtypes, ::testing::ElementsAre("float32"));
  EXPECT_EQ(read.overrides_json, R"({"n":3})");
}

// With the real Python and sandbox.
TEST(problem_survey, tells_every_problem_apart_and_outlives_those_that_end_its_process) {
  const auto sandbox = Sandbox::find();
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().to_string();
  const auto python = find_python_environment();
  ASSERT_TRUE(python.has_value()) << python.error().to_string();
  const std::string head = "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n";
  const std::string tail = "\ndef get_init_inputs():\n    return []\n";
  const std::string ok =
      head + "        return x @ x\ndef get_inputs():\n    return [torch.rand(8, 8)]" + tail;
  const std::vector<std::string> sources = {
      ok, "import os\nos._exit(3)\n", ok, "x = (\n",
      head + "        return x + 1\ndef get_inputs():\n    return [torch.rand(1 << 20, 1 << 12)]" + tail};
  std::vector<SurveyedProblem> seen(sources.size());
  const Status status =
      survey_problems(sources, *python, *sandbox, {.limits = limits(8 * kGib, 240), .num_workers = 1},
                      [&](size_t index, const SurveyedProblem& surveyed) {
                        seen[index] = surveyed;
                        return true;
                      });
  ASSERT_TRUE(status.has_value()) << status.error().to_string();
  EXPECT_EQ(seen[0].size.size_class, SizeClass::kOk) << seen[0].size.reason;
  EXPECT_EQ(seen[0].measurement.judged->flops, 2 * 8 * 8 * 8);
  EXPECT_EQ(seen[0].measurement.judged->output_bytes, 8 * 8 * 4);
  EXPECT_THAT(seen[1].size.reason, HasSubstr("died"));
  EXPECT_EQ(seen[2].size.size_class, SizeClass::kOk) << seen[2].size.reason;
  EXPECT_EQ(seen[3].size.size_class, SizeClass::kDoesNotBuild);
  EXPECT_THAT(seen[3].size.reason, HasSubstr("SyntaxError"));
  EXPECT_EQ(seen[4].size.size_class, SizeClass::kTooLargeForMemory) << seen[4].size.reason;
}

}  // namespace
}  // namespace nemoforge::verify
