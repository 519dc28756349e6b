#include "endpoint/openai_api.h"

#include <gtest/gtest.h>

namespace nemoforge::endpoint {
namespace {

TEST(OpenaiApi, the_root_is_the_url_without_v1) {
  EXPECT_EQ(server_root("http://a:1"), "http://a:1");
  EXPECT_EQ(server_root("http://a:1/v1//"), "http://a:1");
}

TEST(OpenaiApi, models_are_listed_with_what_is_known_of_them) {
  const auto models = parse_model_list(
      R"({"data":[{"id":"m"},{"id":"n","checkpoint_hash":"c","chat_template_hash":"t","adapter_hash":7}]})");
  ASSERT_TRUE(models) << models.error().message;
  ASSERT_EQ(models->size(), 2u);
  EXPECT_EQ((*models)[0].id + (*models)[0].checkpoint_hash, "m");
  EXPECT_EQ((*models)[1].checkpoint_hash, "c");
  EXPECT_EQ((*models)[1].chat_template_hash, "t");
  EXPECT_EQ((*models)[1].adapter_hash, "");
}

TEST(OpenaiApi, a_list_without_models_is_an_error) {
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
