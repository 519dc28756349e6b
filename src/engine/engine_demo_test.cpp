// The engine on the bundled demo checkpoint, whose greedy answers transformers gave
// (models/demo/parity.json).
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "engine/generate.h"
#include "grammar/grammar.h"
#include "io/json.h"
#include "model/model.h"
#include "ops/backend.h"
#include "text/tokenizer/tokenizer.h"

namespace nemoforge::engine {
namespace {

using ::testing::HasSubstr;

constexpr const char* kFolder = NEMOFORGE_SOURCE_DIR "/models/demo";

class EngineDemo : public ::testing::Test {
 protected:
  Request greedy_request(size_t prompt_idx) {
    Request request;
    request.prompt_token_ids = parity_["prompts"][prompt_idx]["input_ids"].get<std::vector<int32_t>>();
    request.sampling.temperature = 0;
    request.max_tokens = 64;
    request.skip_special_tokens = false;
    return request;
  }

  std::unique_ptr<ops::Backend> backend_ = ops::make_cpu_backend();
  model::Model model_ = model::Model::load(kFolder, DType::kF32, *backend_).value();
  text::Tokenizer tokenizer_ = text::Tokenizer::load(kFolder).value();
  std::unique_ptr<Engine> engine_ = Engine::create(model_, &tokenizer_, EngineConfig{}).value();
  io::Json parity_ = io::read_json_file(std::string(kFolder) + "/parity.json").value();
};

TEST_F(EngineDemo, completions_follow_the_grammar_of_their_request) {
  Request request;
  request.prompt_token_ids = tokenizer_.encode("The kernel is");
  request.sampling.seed = 7;
  request.max_tokens = 400;
  request.n = 3;
  const auto schema = io::parse_json(R"({"type": "object", "properties": {"n": {"type": "integer"},
      "ok": {"type": "boolean"}}, "required": ["n", "ok"]})");
  request.grammar = std::make_shared<const grammar::Grammar>(grammar::from_json_schema(*schema).value());
  const auto answers = generate(*engine_, request);
  ASSERT_TRUE(answers) << answers.error().message;
  for (const Completion& completion : *answers) {
    const auto json = io::parse_json(completion.text);
    ASSERT_TRUE(json) << completion.text;
    EXPECT_TRUE((*json)["n"].is_number_integer() && (*json)["ok"].is_boolean()) << completion.text;
    EXPECT_EQ(completion.finish.reason, FinishReason::kStop);
  }
}

TEST_F(EngineDemo, a_grammar_begins_after_the_thought) {
  Request request = greedy_request(0);
  request.prompt_token_ids = tokenizer_.encode("<think>");
  request.thinking_budget = ThinkingBudget{3, 0};
  request.grammar = std::make_shared<const grammar::Grammar>(grammar::from_choice({"yes", "no"}).value());
  request.skip_special_tokens = false;
  const auto answers = generate(*engine_, request);
  ASSERT_TRUE(answers) << answers.error().message;
  const Completion& completion = (*answers)[0];
  EXPECT_EQ(completion.finish.reason, FinishReason::kStop);
  EXPECT_TRUE(completion.text.ends_with("</think>yes") || completion.text.ends_with("</think>no"))
      << completion.text;
}

TEST_F(EngineDemo, tags_stay_in_the_text_where_other_special_tokens_go) {
  // A thought that ends at once, and no end: the text has </think>, and <|im_end|> where the model writes it.
  Request request = greedy_request(0);
  request.prompt_token_ids = tokenizer_.encode("<think>");
  request.thinking_budget = ThinkingBudget{0, 0};
  request.sampling.logit_bias = {{11, 100.0F}};  // <|im_end|>
  request.sampling.ignore_eos = true;
  request.max_tokens = 3;
  const auto text_of = [&](bool skip_special_tokens, bool keep_tag_tokens) {
    request.skip_special_tokens = skip_special_tokens;
    request.keep_tag_tokens = keep_tag_tokens;
    return generate(*engine_, request).value()[0].text;
  };
  EXPECT_EQ(text_of(false, false), "</think><|im_end|><|im_end|>");
  EXPECT_EQ(text_of(true, true), "</think>");
  EXPECT_EQ(text_of(true, false), "");
}

TEST_F(EngineDemo, three_prompts_together_are_answered_as_by_transformers) {
  std::vector<Result<std::vector<Completion>>> answers(3);
  std::vector<std::thread> clients;
  for (size_t i = 0; i < 3; ++i) {
    clients.emplace_back([&, i] { answers[i] = generate(*engine_, greedy_request(i)); });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    ASSERT_TRUE(answers[i]) << answers[i].error().message;
    const Completion& completion = (*answers[i])[0];
    std::vector<int32_t> expected = parity_["prompts"][i]["greedy_64"].get<std::vector<int32_t>>();
    EXPECT_EQ(completion.token_ids(), expected);
    const bool ended = completion.finish.reason == FinishReason::kStop;
    EXPECT_EQ(ended, expected.size() < 64) << "at an end-of-sequence token, or at max_tokens";
    if (ended) expected.pop_back();  // it has no text
    EXPECT_EQ(completion.text, tokenizer_.decode(expected));
  }
}

TEST_F(EngineDemo, a_thinking_budget_ends_the_thought_at_a_line_and_the_code_follows) {
  Request request = greedy_request(0);
  request.max_tokens = 300;
  const auto whole = generate(*engine_, request);
  ASSERT_TRUE(whole);
  const int32_t free_thought = (*whole)[0].finish.usage.reasoning_tokens;
  ASSERT_GT(free_thought, 30);

  request.thinking_budget = ThinkingBudget{20, 500};
  const auto bounded = generate(*engine_, request);
  ASSERT_TRUE(bounded);
  const Completion& completion = (*bounded)[0];
  const int32_t thought = completion.finish.usage.reasoning_tokens;
  EXPECT_GE(thought, 20);
  EXPECT_LT(thought, free_thought);
  EXPECT_GT(completion.finish.usage.cached_tokens, 0) << "the same prompt";
  const size_t end = completion.text.find("\n</think>");
  ASSERT_NE(end, std::string::npos) << completion.text;
  EXPECT_EQ((*whole)[0].text.substr(0, end + 1), completion.text.substr(0, end + 1));
  EXPECT_THAT(completion.text.substr(end), HasSubstr("```python"));
  EXPECT_EQ(completion.finish.reason, FinishReason::kLength);
}

}  // namespace
}  // namespace nemoforge::engine
