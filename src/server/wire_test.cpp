#include "server/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/access.h"

namespace nemoforge::server {
namespace {

using testing::IsEmpty;

text::Tokenizer demo_tokenizer() {
  auto tokenizer = text::Tokenizer::load(NEMOFORGE_SOURCE_DIR "/models/demo");
  EXPECT_TRUE(tokenizer);
  return std::move(*tokenizer);
}

TEST(SseEvent, is_one_line_and_an_empty_one) {
  // The data is one line of JSON: line feeds in texts are escaped there.
  EXPECT_EQ(sse_event(io::dump_json({{"text", "a\nb"}})), "data: {\"text\":\"a\\nb\"}\n\n");
}

TEST(ChatLogprobs, carry_the_bytes_of_tokens_that_are_no_whole_characters) {
  const text::Tokenizer tokenizer = demo_tokenizer();
  const auto ids = tokenizer.encode("\xe2\x82\xac");  // one character
  std::vector<int> bytes;
  for (const int32_t id : ids) {
    const sampling::SampledToken token{id, -0.5F, {{id, -0.5F}}};
    const io::Json json = chat_logprobs(std::span(&token, 1), {.tokenizer = &tokenizer});
    const io::Json& entry = json.at("content").at(0);
    EXPECT_EQ(entry.at("logprob"), -0.5F);
    EXPECT_EQ(entry.at("top_logprobs").at(0).at("bytes"), entry.at("bytes"));
    for (const auto& byte : entry.at("bytes")) bytes.push_back(byte.get<int>());
  }
  EXPECT_EQ(bytes, (std::vector<int>{0xe2, 0x82, 0xac}));
}

TEST(CompletionLogprobs, offsets_count_characters) {
  const text::Tokenizer tokenizer = demo_tokenizer();
  CompletionLogprobs logprobs({.tokenizer = &tokenizer});
  const auto ids = tokenizer.encode("def f(x):");
  logprobs.add_unscored(ids[0]);
  for (size_t i = 1; i < ids.size(); ++i) logprobs.add({ids[i], -1.0F, {}});
  const io::Json json = logprobs.take();
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(json.at("text_offset").at(i), text.size());
    text += json.at("tokens").at(i).get<std::string>();
  }
  EXPECT_EQ(text, "def f(x):");
  EXPECT_TRUE(json.at("token_logprobs").at(0).is_null());
  EXPECT_THAT(logprobs.take().at("tokens"), IsEmpty());
}

TEST(ApiKeys, admit_a_known_key_and_nothing_else) {
  const ApiKeys keys({"secret", "other"});
  EXPECT_TRUE(keys.admit("Bearer secret"));
  EXPECT_TRUE(keys.admit("Bearer other"));
  EXPECT_TRUE(keys.admit("bearer other"));
  for (const char* wrong : {"", "secret", "Bearer ", "Bearer secre", "Bearer secrett", "Basic secret"})
    EXPECT_FALSE(keys.admit(wrong)) << wrong;
  EXPECT_TRUE(ApiKeys({}).admit(""));
}

TEST(CorsHeaders, are_for_known_origins_only) {
  const std::string origin = "https://a.example";
  EXPECT_THAT(cors_headers({}, origin, ""), IsEmpty());
  EXPECT_THAT(cors_headers({"https://b.example"}, origin, ""), IsEmpty());
  EXPECT_THAT(cors_headers({"*"}, "", ""), IsEmpty());
  EXPECT_EQ(cors_headers({origin}, origin, "").at(0).second, origin);
  EXPECT_EQ(cors_headers({"*"}, origin, "").at(0).second, "*");
}

TEST(CorsHeaders, allow_the_headers_that_a_page_asks_for) {
  const auto allowed = [](const std::string& requested) {
    return cors_headers({"*"}, "https://a.example", requested).at(2).second;
  };
  EXPECT_EQ(allowed("authorization, x-stainless-os"), "authorization, x-stainless-os");
  const std::string usual = "Authorization, Content-Type, X-Request-Id";
  for (const std::string& odd : {std::string(), std::string("a\r\nSet-Cookie: b"), std::string(3000, 'a')})
    EXPECT_EQ(allowed(odd), usual) << odd;
}

TEST(RequestId, keeps_plain_ones_and_replaces_others) {
  EXPECT_EQ(request_id("abc-1_2.3"), "abc-1_2.3");
  EXPECT_EQ(request_id("").size(), 32U);
  EXPECT_EQ(request_id("a\r\nSet-Cookie: x").size(), 32U);
  EXPECT_EQ(request_id(std::string(129, 'a')).size(), 32U);
}

}  // namespace
}  // namespace nemoforge::server
