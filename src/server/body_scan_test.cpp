#include "server/body_scan.h"

#include <gtest/gtest.h>

namespace nemoforge::server {
namespace {

TEST(MostObjectKeys, counts_by_object_and_not_within_strings) {
  EXPECT_EQ(most_object_keys(""), 0U);
  EXPECT_EQ(most_object_keys(R"({"a": 1, "b": {"c": 2, "d": [3], "e": {}}})"), 3U);
  EXPECT_EQ(most_object_keys(R"([{"a": 1}, {"b": 2}, {"c": 3}])"), 1U);
  EXPECT_EQ(most_object_keys(R"({"a": "\":::", "b": "x:y"})"), 2U);
  EXPECT_EQ(most_object_keys("}}]]:::"), 3U) << "no JSON, but no crash either";
}

}  // namespace
}  // namespace nemoforge::server
