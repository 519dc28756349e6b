#include "server/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/api_error.h"

namespace nemoforge::server {
namespace {

using testing::ElementsAre;
using testing::Pair;

Result<Parameters> read(const char* body, Endpoint endpoint = Endpoint::kChat) {
  return read_parameters(io::Json::parse(body), endpoint);
}

TEST(ReadParameters, reads_every_kind_of_value) {
  const auto read_parameters = read(
      R"({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.5, "top_k": 3,
          "max_tokens": 7, "max_completion_tokens": 9, "n": 2, "stop": "x", "stop_token_ids": [5],
          "logit_bias": {"12": -1.5}, "logprobs": true, "top_logprobs": 4, "seed": 18446744073709551615})");
  ASSERT_TRUE(read_parameters) << read_parameters.error().message;
  const Parameters& parameters = *read_parameters;
  EXPECT_EQ(parameters.model, "m");
  EXPECT_TRUE(parameters.stream);
  EXPECT_TRUE(parameters.include_usage);
  EXPECT_EQ(parameters.sampling.temperature, 0.5F);
  EXPECT_EQ(parameters.sampling.top_k, 3);
  EXPECT_EQ(parameters.max_tokens, 9) << "max_completion_tokens wins";
  EXPECT_EQ(parameters.n, 2);
  EXPECT_THAT(parameters.stop, ElementsAre("x"));
  EXPECT_THAT(parameters.sampling.stop_token_ids, ElementsAre(5));
  EXPECT_THAT(parameters.sampling.logit_bias, ElementsAre(Pair(12, -1.5F)));
  EXPECT_EQ(parameters.sampling.top_logprobs, 4);
  EXPECT_EQ(parameters.sampling.seed, UINT64_MAX);
}

TEST(ReadParameters, takes_null_as_absent_and_ignores_unknown_names) {
  const auto parameters =
      read(R"({"temperature": null, "stop": null, "logprobs": null, "no_such_thing": {"a": 1}})");
  ASSERT_TRUE(parameters);
  EXPECT_EQ(parameters->sampling.temperature, 1.0F);
  EXPECT_FALSE(parameters->sampling.top_logprobs);
}

TEST(ReadParameters, logprobs_is_a_switch_of_chats_and_a_count_of_completions) {
  EXPECT_EQ(read(R"({"logprobs": true})")->sampling.top_logprobs, 0);
  EXPECT_FALSE(read(R"({"logprobs": false})")->sampling.top_logprobs);
  EXPECT_EQ(read(R"({"logprobs": 2})", Endpoint::kCompletions)->sampling.top_logprobs, 2);
  EXPECT_FALSE(read(R"({"logprobs": true})", Endpoint::kCompletions));
  EXPECT_FALSE(read(R"({"top_logprobs": 2})"));
}

TEST(ReadParameters, every_alias_of_the_thinking_budget_is_read) {
  for (const char* body : {R"({"thinking_token_budget": 8})", R"({"reasoning_budget_tokens": 8})",
                           R"({"thinking_budget_tokens": 8})", R"({"reasoning_budget": 8})",
                           R"({"nvext": {"max_thinking_tokens": 8}})"}) {
    const auto parameters = read(body);
    ASSERT_TRUE(parameters) << body;
    EXPECT_EQ(parameters->thinking_token_budget, 8) << body;
  }
  EXPECT_FALSE(read(R"({"thinking_token_budget": -1})")->thinking_token_budget);
}

struct BadCase {
  const char* body;
  const char* param;
};

TEST(ReadParameters, an_error_names_its_parameter) {
  for (const BadCase& bad : std::initializer_list<BadCase>{
           {R"({"temperature": "hot"})", "temperature"},
           {R"({"temperature": true})", "temperature"},
           {R"({"temperature": 1e300})", "temperature"},
           {R"({"max_tokens": 0})", "max_tokens"},
           {R"({"max_tokens": 1.5})", "max_tokens"},
           {R"({"max_tokens": 99999999999})", "max_tokens"},
           {R"({"n": 0})", "n"},
           {R"({"n": 129})", "n"},
           {R"({"stream": "yes"})", "stream"},
           {R"({"stream_options": {"include_usage": 1}})", "stream_options.include_usage"},
           {R"({"stop": [1]})", "stop"},
           {R"({"stop": {}})", "stop"},
           {R"({"logit_bias": {"a": 1}})", "logit_bias"},
           {R"({"logit_bias": {"1": "2"}})", "logit_bias"},
           {R"({"stop_token_ids": [-1]})", "stop_token_ids"},
           {R"({"logprobs": true, "top_logprobs": 21})", "top_logprobs"},
           {R"({"seed": 1.5})", "seed"},
           {R"({"reasoning_effort": "extreme"})", "reasoning_effort"},
           {R"({"nvext": {"max_thinking_tokens": -2}})", "nvext.max_thinking_tokens"},
           {R"({"echo": true})", "echo"},
           {R"({"use_beam_search": true})", "use_beam_search"},
       }) {
    const auto parameters = read(bad.body);
    ASSERT_FALSE(parameters) << bad.body;
    const ApiError error = to_api_error(parameters.error());
    EXPECT_EQ(error.status, 400) << bad.body;
    EXPECT_EQ(error.param, bad.param) << error.message;
  }
}

TEST(ParameterAtFault, is_the_word_that_the_message_begins_with) {
  EXPECT_EQ(parameter_at_fault("messages[3]: no role"), "messages");
  EXPECT_EQ(parameter_at_fault("top_p must be in (0, 1], got 2."), "top_p");
  EXPECT_EQ(parameter_at_fault("the prompt must hold at least one token."), "");
  EXPECT_EQ(parameter_at_fault(""), "");
}

TEST(ErrorJson, is_nested_as_openai_has_it) {
  EXPECT_EQ(io::dump_json(error_json({429, "full", {}})),
            R"({"error":{"message":"full","type":"RateLimitError","param":null,"code":429}})");
}

}  // namespace
}  // namespace nemoforge::server
