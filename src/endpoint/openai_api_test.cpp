#include "endpoint/openai_api.h"

#include <gtest/gtest.h>

namespace nemoforge::endpoint {
namespace {

TEST(OpenaiApi, the_root_is_the_url_without_v1) {
  EXPECT_EQ(server_root("http://a:1"), "http://a:1");
  EXPECT_EQ(server_root("http://a:1/v1//"), "http://a:1");
}

TEST(OpenaiApi, the_first_model_is_named_or_the_list_is_an_error) {
  EXPECT_EQ(*parse_model_list(R"({"data":[{"id":"m"},{"id":"n"}]})"), "m");
  for (const char* body : {"", "[]", "{}", R"({"data":[]})", R"({"data":[{}]})", R"({"data":[1]})",
                           R"({"data":{"0":{"id":"m"}}})", R"({"data":[{"id":3}]})"}) {
    EXPECT_FALSE(parse_model_list(body).has_value()) << body;
  }
}

TEST(OpenaiApi, error_texts_are_short_and_printable) {
  EXPECT_EQ(api_error_text(R"({"error":{"message":"too long"}})"), "too long");
  EXPECT_EQ(api_error_text(R"({"message":"bad","object":"error"})"), "bad");
  EXPECT_EQ(api_error_text(R"({"error":"x"})"), "x");
  EXPECT_EQ(api_error_text("<html>\n\x1b[1m\xff"), "<html>  [1m\xEF\xBF\xBD");
  EXPECT_LT(api_error_text(std::string(100000, 'x')).size(), 400u);
}

}  // namespace
}  // namespace nemoforge::endpoint
