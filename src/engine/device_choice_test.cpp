// The engine on backends that choose tokens where the logits are, against the engine whose host chooses.
#include "ops/device_choice.h"

#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include "engine/engine_test_support.h"
#include "grammar/grammar.h"

namespace nemoforge::engine {
namespace {

std::vector<std::unique_ptr<ops::Backend>> choosing_backends() {
  std::vector<std::unique_ptr<ops::Backend>> backends;
  backends.push_back(ops::make_reference_backend());
  if (auto backend = ops::make_cuda_backend()) backends.push_back(std::move(*backend));
  return backends;
}

// Requests that ask for everything that bears on the choice of a token.
std::vector<Request> requests() {
  std::vector<Request> all;
  const auto add = [&](const std::function<void(Request&)>& change) {
    Request request = random_request(static_cast<int64_t>(5 + all.size()), all.size(), 12);
    change(request);
    all.push_back(std::move(request));
  };
  add([](Request& r) { r.sampling.temperature = 0; });
  add([](Request& r) { r.sampling.temperature = 0, r.sampling.top_logprobs = 4; });
  add([](Request& r) { r.sampling.temperature = 0.8F, r.sampling.top_k = 20, r.sampling.top_p = 0.9F; });
  add([](Request& r) { r.sampling.min_p = 0.02F, r.sampling.repetition_penalty = 1.2F; });
  add([](Request& r) { r.sampling.logit_bias = {{40, 4.0F}}, r.sampling.bad_token_ids = {41}; });
  add([](Request& r) { r.n = 3; });  // two of them begin at the branch point's logits
  add([](Request& r) { r.prompt_top_logprobs = 2, r.sampling.top_logprobs = 1; });
  add([](Request& r) {
    r.prompt_token_ids.push_back(kThinkStart);
    r.thinking_budget = ThinkingBudget{2, 0};  // a token that is forced
    r.sampling.top_logprobs = 2;
  });
  add([](Request& r) {
    r.grammar = std::make_shared<const grammar::Grammar>(grammar::from_choice({"yes", "no"}).value());
    r.sampling.ignore_eos = false;
  });
  return all;
}

// The completions of all requests at the same time.
std::vector<std::vector<Completion>> answer(TinyModel& tiny) {
  const auto engine = tiny.engine(tiny_config());
  std::vector<std::vector<Completion>> answers;
  std::vector<std::thread> clients;
  const std::vector<Request> all = requests();
  answers.resize(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    clients.emplace_back([&, i] { answers[i] = generate(*engine, all[i]).value(); });
  }
  for (std::thread& client : clients) client.join();
  return answers;
}

TEST(DeviceChoice, tokens_are_those_that_the_host_chooses) {
  TinyModel host;
  const auto expected = answer(host);
  for (auto& backend : choosing_backends()) {
    SCOPED_TRACE(backend->name());
    TinyModel device(std::move(backend));
    const auto actual = answer(device);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(actual[i].size(), expected[i].size());
      for (size_t j = 0; j < expected[i].size(); ++j) {
        SCOPED_TRACE(testing::Message() << "request " << i << ", completion " << j);
        EXPECT_EQ(actual[i][j].token_ids(), expected[i][j].token_ids());
        EXPECT_EQ(actual[i][j].finish.reason, expected[i][j].finish.reason);
        EXPECT_EQ(actual[i][j].prompt_logprobs.size(), expected[i][j].prompt_logprobs.size());
        for (size_t k = 0; k < expected[i][j].tokens.size(); ++k) {
          EXPECT_NEAR(actual[i][j].tokens[k].logprob, expected[i][j].tokens[k].logprob, 1e-3);
          EXPECT_EQ(actual[i][j].tokens[k].top_logprobs.size(), expected[i][j].tokens[k].top_logprobs.size());
        }
      }
    }
  }
}

TEST(DeviceChoice, a_request_whose_constraints_leave_nothing_ends_alone) {
  for (auto& backend : choosing_backends()) {
    SCOPED_TRACE(backend->name());
    TinyModel device(std::move(backend));
    const auto engine = device.engine(tiny_config());
    Request impossible = random_request(5, 1, 4);
    impossible.sampling.allowed_token_ids = {20};
    impossible.sampling.bad_token_ids = {20};
    EXPECT_FALSE(generate(*engine, impossible));
    EXPECT_EQ(generate(*engine, random_request(5, 2, 4)).value()[0].tokens.size(), 4U);
  }
}

}  // namespace
}  // namespace nemoforge::engine
