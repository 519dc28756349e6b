#include "trace/engine_source.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/temporary_folder.h"
#include "io/json.h"
#include "model/model.h"
#include "ops/device_choice.h"
#include "trace/extract.h"
#include "trace/problem.h"
#include "trace/trace.h"

namespace nemoforge::trace {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::SizeIs;

std::string demo_dir() {
  return std::string(NEMOFORGE_SOURCE_DIR) + "/models/demo";
}

// The demo checkpoint on the CPU, its engine, and the bundled problem whose prompt transformers was given
// too.
class EngineSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    backend_ = value(ops::make_backend(ops::DeviceChoice::kCpu));
    model_ = std::make_unique<model::Model>(value(model::Model::load(demo_dir(), DType::kF32, *backend_)));
    tokenizer_ = std::make_unique<text::Tokenizer>(value(text::Tokenizer::load(demo_dir())));
    chat_template_ = std::make_unique<text::ChatTemplate>(value(text::ChatTemplate::load(demo_dir())));
    engine::EngineConfig config;
    config.max_num_seqs = 4;
    config.max_model_len = 2048;
    engine_ = value(engine::Engine::create(*model_, tokenizer_.get(), config));
    ProblemFilter filter;
    filter.id_pattern = "^held_out_00$";
    problems_ = value(load_problems(std::string(NEMOFORGE_SOURCE_DIR) + "/problems/bundled", filter));
    parity_ = value(io::read_json_file(demo_dir() + "/parity.json"))["prompts"][0];
    silent_.write = [](std::string_view) {};
    silent_.now_s = [] { return 0.0; };
  }

  template <typename T>
  static T value(Result<T>&& result) {
    if (!result) throw std::runtime_error(result.error().to_string());
    return std::move(*result);
  }
  [[nodiscard]] store::RunStore open(const std::string& name) const {
    return value(store::RunStore::open(dir_ + "/" + name, store::Access::kTrace,
                                       {.command = "trace", .nemoforge_version = "0"}));
  }
  TraceReport generate(
      store::RunStore& run, const std::function<bool()>& stopped = [] { return false; }) {
    EngineSource source({*engine_, *tokenizer_, *chat_template_, nullptr},
                        {"demo", "", "checkpoint", "template"}, config_.sampling);
    return value(
        generate_traces(run, problems_, PromptTemplate::zero_shot(), source, config_, silent_, stopped));
  }
  static std::map<int64_t, store::Trace> traces_of(const store::RunStore& run) {
    std::map<int64_t, store::Trace> traces;
    EXPECT_TRUE(run.for_each_trace([&](store::JudgedTrace&& judged) {
      traces.emplace(judged.trace.sample_idx, std::move(judged.trace));
      return true;
    }));
    return traces;
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
  std::unique_ptr<ops::Backend> backend_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<text::ChatTemplate> chat_template_;
  std::unique_ptr<engine::Engine> engine_;
  std::vector<Problem> problems_;
  io::Json parity_;
  TraceConfig config_;
  ProgressOutput silent_;
};

TEST_F(EngineSourceTest, greedy_answer_equals_that_of_transformers) {
  config_.sampling.temperature = 0;
  config_.sampling.max_tokens = static_cast<int64_t>(parity_["greedy_64"].size());
  store::RunStore run = open("run");
  EXPECT_EQ(generate(run).num_generated, 1);
  const store::Trace trace = traces_of(run).at(0);
  EXPECT_EQ(trace.prompt, parity_["text"].get<std::string>());
  EXPECT_EQ(trace.prompt_token_ids, parity_["input_ids"].get<std::vector<int32_t>>());
  EXPECT_EQ(trace.completion_token_ids, parity_["greedy_64"].get<std::vector<int32_t>>());
}

TEST_F(EngineSourceTest, whole_answers_are_split_and_their_code_is_found) {
  config_.sampling.temperature = 0;
  config_.sampling.max_tokens = 1024;
  store::RunStore run = open("run");
  const TraceReport report = generate(run);
  EXPECT_EQ(report.num_with_code, 1);
  const store::Trace trace = traces_of(run).at(0);
  EXPECT_EQ(trace.finish_reason, "stop");
  EXPECT_THAT(trace.reasoning, ::testing::StartsWith("Operations in order:"));
  EXPECT_THAT(trace.answer, AllOf(::testing::StartsWith("```python\n"), HasSubstr("class ModelNew")));
  EXPECT_THAT(trace.code, AllOf(HasSubstr("@triton.jit"), HasSubstr("class ModelNew")));
  EXPECT_EQ(trace.completion, tokenizer_->decode(trace.completion_token_ids));
  EXPECT_EQ(trace.completion, trace.reasoning + "\n</think>\n" + trace.answer + "<|im_end|>");
  EXPECT_EQ(trace.num_prompt_tokens, static_cast<int64_t>(trace.prompt_token_ids.size()));
  EXPECT_EQ(trace.num_completion_tokens, static_cast<int64_t>(trace.completion_token_ids.size()));
  EXPECT_THAT(trace.num_reasoning_tokens, AllOf(Ge(20), Le(trace.num_completion_tokens)));
  EXPECT_THAT(trace.completion_logprobs, SizeIs(trace.completion_token_ids.size()));
  for (const float logprob : trace.completion_logprobs) EXPECT_LE(logprob, 0);
}

TEST_F(EngineSourceTest, samples_depend_on_their_seed_alone_and_a_stopped_run_continues) {
  config_.num_samples = 3;
  config_.sampling.max_tokens = 24;
  store::RunStore whole = open("whole");
  EXPECT_EQ(generate(whole).num_generated, 3);
  const auto expected = traces_of(whole);
  EXPECT_NE(expected.at(0).completion_token_ids, expected.at(1).completion_token_ids);
  EXPECT_EQ(expected.at(0).finish_reason, "length");

  store::RunStore stopped = open("stopped");
  EXPECT_TRUE(generate(stopped, [] { return true; }).interrupted);
  config_.num_samples = 1;
  EXPECT_EQ(generate(stopped).num_generated, 1);
  config_.num_samples = 3;
  config_.resume = true;
  EXPECT_EQ(generate(stopped).num_generated, 2);
  for (const auto& [sample_idx, trace] : traces_of(stopped)) {
    EXPECT_EQ(trace.completion_token_ids, expected.at(sample_idx).completion_token_ids) << sample_idx;
    EXPECT_EQ(trace.completion_logprobs, expected.at(sample_idx).completion_logprobs) << sample_idx;
  }
}

TEST_F(EngineSourceTest, the_thought_ends_within_its_budget) {
  config_.sampling.max_tokens = 64;
  config_.sampling.reasoning_budget = 8;
  store::RunStore run = open("run");
  generate(run);
  const store::Trace trace = traces_of(run).at(0);
  EXPECT_THAT(trace.completion, HasSubstr("</think>"));
  EXPECT_LE(trace.num_reasoning_tokens, 40);
}

TEST_F(EngineSourceTest, a_prompt_that_cannot_fit_is_given_up_alone) {
  Problem endless = problems_[0];
  endless.id = "endless";
  for (int i = 0; i < 4000; ++i) endless.source += "# more and more\n";
  problems_.push_back(endless);
  config_.sampling.max_tokens = 4;
  store::RunStore run = open("run");
  const TraceReport report = generate(run);
  EXPECT_EQ(report.num_generated, 1);
  EXPECT_EQ(report.num_failed, 1);
  EXPECT_THAT(report.first_failure, HasSubstr("endless"));
}

}  // namespace
}  // namespace nemoforge::trace
