#include "trace/chat_completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "io/json.h"

namespace nemoforge::trace {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const TraceRequest kRequest = {"p", 0, 0, R"([{"role":"user","content":"hello"}])", 9007199254740991u};

TEST(ChatCompletion, body_asks_for_what_training_needs) {
  SamplingSettings settings;
  settings.temperature = 0.6;
  settings.reasoning_budget = 100;
  settings.top_k = 40;
  const auto body = io::parse_json(chat_completion_body("m", kRequest, settings, ApiExtensions::kAsked));
  ASSERT_TRUE(body.has_value());
  EXPECT_EQ((*body)["model"], "m");
  EXPECT_EQ((*body)["messages"][0]["content"], "hello");
  EXPECT_EQ((*body)["temperature"], 0.6);
  EXPECT_EQ((*body)["seed"], 9007199254740991u);
  EXPECT_EQ((*body)["return_token_ids"], true);
  EXPECT_EQ((*body)["logprobs"], true);
  EXPECT_EQ((*body)["thinking_token_budget"], 100);
  EXPECT_EQ((*body)["chat_template_kwargs"]["enable_thinking"], true);
  EXPECT_EQ((*body)["top_k"], 40);
  EXPECT_FALSE(body->contains("min_p"));
  const auto plain = io::parse_json(chat_completion_body("m", kRequest, settings, ApiExtensions::kLeftOut));
  EXPECT_FALSE(plain->contains("return_token_ids"));
  EXPECT_FALSE(plain->contains("chat_template_kwargs"));
}

TEST(ChatCompletion, reads_texts_ids_logprobs_and_usage) {
  const auto answer = parse_chat_completion(R"({"prompt_token_ids":[1,2],"choices":[{"finish_reason":"stop",
      "message":{"content":"a","reasoning_content":"r"},"token_ids":[3,4],
      "logprobs":{"content":[{"logprob":-1.5},{"logprob":0}]}}],
      "usage":{"prompt_tokens":2,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":1}}})");
  ASSERT_TRUE(answer.has_value()) << answer.error().to_string();
  EXPECT_EQ(answer->answer, "a");
  EXPECT_EQ(answer->reasoning, "r");
  EXPECT_EQ(answer->finish_reason, "stop");
  EXPECT_THAT(answer->prompt_token_ids, ElementsAre(1, 2));
  EXPECT_THAT(answer->completion_token_ids, ElementsAre(3, 4));
  EXPECT_THAT(answer->completion_logprobs, ElementsAre(-1.5F, 0.0F));
  EXPECT_EQ(answer->num_prompt_tokens, 2);
  EXPECT_EQ(answer->num_reasoning_tokens, 1);
}

TEST(ChatCompletion, splits_reasoning_where_the_server_did_not) {
  const auto whole = parse_chat_completion(R"({"choices":[{"message":{"content":"r\n</think>\na"}}]})");
  ASSERT_TRUE(whole.has_value());
  EXPECT_EQ(whole->reasoning, "r");
  EXPECT_EQ(whole->answer, "a");
  EXPECT_EQ(whole->completion, "r\n</think>\na");
  const auto named = parse_chat_completion(R"({"choices":[{"message":{"content":"a","reasoning":"r"}}]})");
  EXPECT_EQ(named->reasoning, "r");
  const auto null = parse_chat_completion(R"({"choices":[{"message":{"content":null,"reasoning":"r"}}]})");
  EXPECT_EQ(null->answer, "");
}

TEST(ChatCompletion, ids_and_logprobs_that_do_not_fit_each_other_are_left_out) {
  const auto fewer = parse_chat_completion(
      R"({"choices":[{"message":{"content":"a"},"token_ids":[3,4],"logprobs":{"content":[{"logprob":-1}]}}]})");
  EXPECT_THAT(fewer->completion_token_ids, ElementsAre(3, 4));
  EXPECT_THAT(fewer->completion_logprobs, IsEmpty());
  const auto wild = parse_chat_completion(
      R"({"choices":[{"message":{"content":"a"},"token_ids":[-1,99999999999]}],"usage":{"prompt_tokens":"x"}})");
  ASSERT_TRUE(wild.has_value());
  EXPECT_THAT(wild->completion_token_ids, IsEmpty());
}

TEST(ChatCompletion, other_bodies_are_errors) {
  for (const char* body : {"", "[]", "{}", R"({"choices":[]})", R"({"choices":[{}]})", R"({"choices":[1]})",
                           R"({"choices":{"0":{"message":{}}}})", R"({"choices":[{"message":"a"}]})"}) {
    EXPECT_FALSE(parse_chat_completion(body).has_value()) << body;
  }
}

}  // namespace
}  // namespace nemoforge::trace
