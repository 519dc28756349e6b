#include "verify/state_match.h"

#include <gtest/gtest.h>

namespace nemoforge::verify {
namespace {

using io::Json;

Json reference_tensor(const char* key, const char* digest, int64_t size) {
  return {{"key", key},
          {"digest", digest},
          {"tensor", "float32"},
          {"shape", Json::array({size})},
          {"bytes", 4 * size}};
}

Json candidate_tensor(const char* key, const char* digest, int64_t size) {
  return {{"key", key}, {"digest", digest}, {"dtype", "float32"}, {"shape", Json::array({size})}};
}

TEST(StateMatch, pairs_by_name_and_else_by_content) {
  const Json reference =
      Json::array({reference_tensor("fc.weight", "a", 1), reference_tensor("fc.bias", "b", 1)});
  const Json candidate = Json::array({candidate_tensor("b", "b", 1), candidate_tensor("fc.weight", "c", 1)});
  const StateMatch match = match_state(reference, "WWWWBBBB", candidate, Json::object());
  ASSERT_EQ(match.tensors.size(), 2U);
  EXPECT_EQ(match.tensors[0]["key"], "fc.weight");
  EXPECT_EQ(match.tensors[1]["key"], "b");
  EXPECT_EQ(match.blob, "WWWWBBBB");
  EXPECT_FALSE(match.seed_only);
}

TEST(StateMatch, says_when_a_parameter_has_no_counterpart) {
  const Json reference = Json::array({reference_tensor("weight", "a", 2), reference_tensor("scale", "b", 1)});
  const Json candidate = Json::array({candidate_tensor("weight", "a", 2)});
  const Json parameters = {{"scale", {{"matters", true}, {"constant", true}}}};
  const StateMatch match = match_state(reference, "WWWWWWWWSSSS", candidate, parameters);
  EXPECT_TRUE(match.seed_only);
  EXPECT_EQ(match.missing_parameter, "scale");
  const Json unused = {{"scale", {{"matters", false}}}};
  EXPECT_FALSE(match_state(reference, "WWWWWWWWSSSS", candidate, unused).seed_only);
}

TEST(StateMatch, survives_a_list_of_nonsense) {
  const Json candidate = Json::array({1, "x", Json{{"key", 3}, {"shape", Json::array({"a", -1})}}});
  EXPECT_TRUE(
      match_state(Json::array({reference_tensor("weight", "a", 1)}), "WWWW", candidate, Json::object())
          .tensors.empty());
}

}  // namespace
}  // namespace nemoforge::verify
