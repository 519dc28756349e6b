#include "sampling/sampling_params.h"

#include <cmath>
#include <functional>
#include <string>

#include <gtest/gtest.h>

namespace nemoforge::sampling {
namespace {

struct Case {
  const char* parameter;
  std::function<void(SamplingParams&)> spoil;
};

TEST(SamplingParams, accepts_defaults_and_the_ends_of_ranges) {
  EXPECT_TRUE(validate(SamplingParams{}, 8));
  SamplingParams params;
  params.temperature = 0;
  params.top_p = 1e-6F;
  params.top_k = -1;
  params.min_p = 1;
  params.presence_penalty = -2;
  params.frequency_penalty = 2;
  params.top_logprobs = 20;
  params.logit_bias = {{0, -100.0F}, {7, 100.0F}};
  params.stop_token_ids = {7};
  EXPECT_TRUE(validate(params, 8));
}

TEST(SamplingParams, names_the_parameter_out_of_range) {
  const float nan = std::nanf("");
  const float inf = std::numeric_limits<float>::infinity();
  const Case cases[] = {
      {"temperature", [](auto& p) { p.temperature = -0.5F; }},
      {"temperature", [=](auto& p) { p.temperature = nan; }},
      {"temperature", [=](auto& p) { p.temperature = inf; }},
      {"top_p", [](auto& p) { p.top_p = 0; }},
      {"top_p", [](auto& p) { p.top_p = 1.01F; }},
      {"top_p", [=](auto& p) { p.top_p = nan; }},
      {"top_k", [](auto& p) { p.top_k = -2; }},
      {"min_p", [](auto& p) { p.min_p = 1.5F; }},
      {"min_p", [=](auto& p) { p.min_p = nan; }},
      {"repetition_penalty", [](auto& p) { p.repetition_penalty = 0; }},
      {"repetition_penalty", [=](auto& p) { p.repetition_penalty = nan; }},
      {"presence_penalty", [](auto& p) { p.presence_penalty = 2.5F; }},
      {"frequency_penalty", [](auto& p) { p.frequency_penalty = -2.5F; }},
      {"top_logprobs", [](auto& p) { p.top_logprobs = 21; }},
      {"top_logprobs", [](auto& p) { p.top_logprobs = -1; }},
      {"min_tokens", [](auto& p) { p.min_tokens = -1; }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{8, 1.0F}};
       }},
      {"logit_bias",
       [](auto& p) {
         p.logit_bias = {{1, 101.0F}};
       }},
      {"logit_bias",
       [=](auto& p) {
         p.logit_bias = {{1, nan}};
       }},
      {"allowed_token_ids", [](auto& p) { p.allowed_token_ids = {-1}; }},
      {"bad_token_ids", [](auto& p) { p.bad_token_ids = {8}; }},
      {"stop_token_ids", [](auto& p) { p.stop_token_ids = {8}; }},
  };
  for (const Case& c : cases) {
    SamplingParams params;
    c.spoil(params);
    const Status status = validate(params, 8);
    ASSERT_FALSE(status) << c.parameter;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(status.error().message.rfind(c.parameter, 0), 0U) << status.error().message;
  }
}

}  // namespace
}  // namespace nemoforge::sampling
