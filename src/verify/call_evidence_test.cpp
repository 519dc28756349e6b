#include "verify/call_evidence.h"

#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

using io::Json;

ExpectedOutput expect_floats(const std::vector<double>& oracle) {
  ExpectedOutput expected;
  expected.dtype = "float32";
  expected.shape = {static_cast<int64_t>(oracle.size())};
  expected.tolerance = 1e-4;
  expected.oracle = oracle;
  expected.eager = oracle;
  return expected;
}

Json describe_output(int64_t size) {
  return {{"dtype", "float32"}, {"shape", Json::array({size})}, {"device", "cpu"},
          {"delivered", true},  {"from_kernel", true},          {"known_memory", true}};
}

Call judge(const Json& outputs, const std::vector<ExpectedOutput>& expected,
           const std::vector<float>& delivered) {
  Call call;
  judge_outputs({{"outputs", outputs}}, expected, std::as_bytes(std::span(delivered)), call);
  return call;
}

TEST(CallEvidence, compares_outputs_one_after_the_other) {
  const std::vector<ExpectedOutput> expected = {expect_floats({1, 2}), expect_floats({3})};
  const Json outputs = Json::array({describe_output(2), describe_output(1)});
  EXPECT_TRUE(judge(outputs, expected, {1, 2, 3}).values_right);
  const Call wrong = judge(outputs, expected, {1, 2, 4});
  EXPECT_EQ(wrong.defect, OutputDefect::kNone);
  EXPECT_FALSE(wrong.values_right);
}

TEST(CallEvidence, sizes_that_the_process_claims_move_nothing) {
  const std::vector<ExpectedOutput> expected = {expect_floats({1, 2}), expect_floats({3})};
  for (const int64_t claim : {int64_t{-4096}, int64_t{0}, int64_t{1} << 62}) {
    Json first = describe_output(2);
    first["bytes"] = claim;
    EXPECT_TRUE(judge(Json::array({first, describe_output(1)}), expected, {1, 2, 3}).values_right) << claim;
  }
}

TEST(CallEvidence, names_what_is_wrong_before_values_are_looked_at) {
  const std::vector<ExpectedOutput> expected = {expect_floats({1, 2})};
  const auto defect = [&](const Json& output) {
    return judge(Json::array({output}), expected, {1, 2}).defect;
  };
  Json output = describe_output(2);
  EXPECT_EQ(defect(output), OutputDefect::kNone);
  output["dtype"] = "float64";
  EXPECT_EQ(defect(output), OutputDefect::kDtype);
  EXPECT_EQ(defect(describe_output(3)), OutputDefect::kShape);
  output = describe_output(2);
  output["device"] = "cuda";
  EXPECT_EQ(defect(output), OutputDefect::kDevice);
  output = describe_output(2);
  output["delivered"] = false;
  EXPECT_EQ(defect(output), OutputDefect::kNotDelivered);
  EXPECT_EQ(defect(Json::object({{"not_a_tensor", "Lazy"}, {"is_subclass", true}})), OutputDefect::kLazy);
  EXPECT_EQ(judge(Json::array(), expected, {1, 2}).defect, OutputDefect::kCount);
  EXPECT_EQ(judge(Json::array({describe_output(2)}), expected, {1}).defect, OutputDefect::kNotDelivered);
}

TEST(CallEvidence, reads_what_is_malformed_as_nothing) {
  const Call call = read_call({}, {{"num_launches", "many"},
                                   {"operators", Json::array({1, Json::array({"aten::mm"})})},
                                   {"launches", 3},
                                   {"outputs", {}}});
  EXPECT_EQ(call.num_launches, 0);
  EXPECT_TRUE(call.operators.empty());
  EXPECT_TRUE(call.launch_digests.empty());
}

}  // namespace
}  // namespace nemoforge::verify
