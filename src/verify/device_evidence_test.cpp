#include "verify/device_evidence.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace nemoforge::verify {
namespace {

using io::Json;

const Json kExpected = Json::parse(R"([{"dtype": "float32", "shape": [2, 3], "floating": true}])");

Json delivered() {
  return Json::parse(
      R"({"outputs": [{"dtype": "float32", "shape": [2, 3], "device": "cuda", "delivered": true,
                                      "from_kernel": true, "ever_from_kernel": true, "known_memory": true}]})");
}

Json compared() {
  return Json::parse(R"({"inputs_changed": false, "guards_changed": false,
                         "outputs": [{"elements": 6, "bad": 0, "tolerance": 1e-4, "rms_error": 1e-7,
                                      "kernelbench_1e4": true, "kernelbench_1e2": true}]})");
}

OutputDefect defect_of(const Json& reply) {
  Call call;
  const bool formed = check_form(reply, kExpected, call);
  EXPECT_EQ(formed, call.defect == OutputDefect::kNone);
  return call.defect;
}

TEST(DeviceEvidence, a_form_that_is_as_expected_has_no_defect) {
  EXPECT_EQ(defect_of(delivered()), OutputDefect::kNone);
}

TEST(DeviceEvidence, each_part_of_the_form_is_looked_at) {
  Json reply = delivered();
  reply["outputs"][0]["dtype"] = "float16";
  EXPECT_EQ(defect_of(reply), OutputDefect::kDtype);
  reply = delivered();
  reply["outputs"][0]["shape"] = {3, 2};
  EXPECT_EQ(defect_of(reply), OutputDefect::kShape);
  reply = delivered();
  reply["outputs"][0]["device"] = "cpu";
  EXPECT_EQ(defect_of(reply), OutputDefect::kDevice);
  reply = delivered();
  reply["outputs"][0].erase("delivered");
  EXPECT_EQ(defect_of(reply), OutputDefect::kNotDelivered);
  reply = delivered();
  reply["outputs"].push_back(reply["outputs"][0]);
  EXPECT_EQ(defect_of(reply), OutputDefect::kCount);
  reply["outputs"] = {{{"not_a_tensor", "Lazy"}, {"is_subclass", true}}};
  EXPECT_EQ(defect_of(reply), OutputDefect::kLazy);
}

TEST(DeviceEvidence, values_are_right_only_where_the_reference_found_every_element_right) {
  Call call;
  judge_device_outputs(delivered(), kExpected, compared(), call);
  EXPECT_TRUE(call.values_right);
  EXPECT_TRUE(call.output_from_kernel);
  Json comparison = compared();
  comparison["outputs"][0]["bad"] = 1;
  Call wrong;
  judge_device_outputs(delivered(), kExpected, comparison, wrong);
  EXPECT_FALSE(wrong.values_right);
}

// Whatever is missing of an answer counts against the candidate.
TEST(DeviceEvidence, an_answer_without_comparison_is_not_right) {
  Call call;
  judge_device_outputs(delivered(), kExpected, Json::object(), call);
  EXPECT_FALSE(call.values_right);
  Json comparison = compared();
  comparison["outputs"][0].erase("bad");
  Call other;
  judge_device_outputs(delivered(), kExpected, comparison, other);
  EXPECT_FALSE(other.values_right);
}

}  // namespace
}  // namespace nemoforge::verify
