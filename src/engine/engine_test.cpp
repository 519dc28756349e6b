#include "engine/engine.h"

#include <atomic>
#include <future>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine_test_support.h"
#include "io/safetensors.h"
#include "model/lora_adapter.h"

namespace nemoforge::engine {
namespace {

using ::testing::HasSubstr;

std::vector<int32_t> golden_ids(const std::string& name) {
  auto file = io::SafetensorsFile::open(TinyModel::folder() + "/golden.safetensors");
  NF_CHECK(file) << file.error().message;
  const ConstTensorView ids = *file->find(name);
  const int64_t* values = ids.data<int64_t>();
  return {values, values + ids.numel()};
}

// Waits for requests that run at the same time.
class Collector {
 public:
  OutputSink sink(size_t request_idx) {
    return [this, request_idx](RequestOutput&& output) {
      const std::lock_guard lock(mutex_);
      auto& completion = completions_[{request_idx, output.completion_idx}];
      for (auto& token : output.tokens) completion.tokens.push_back(std::move(token));
      completion.text += output.text;
      if (output.finish) completion.finish = std::move(*output.finish);
      if (output.request_finished) ++num_finished_;
      changed_.notify_all();
    };
  }

  void wait_for(size_t num_requests) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return num_finished_ >= num_requests; });
  }
  // Until the completion has so many tokens.
  void wait_for_tokens(size_t request_idx, size_t num_tokens) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return completions_[{request_idx, 0}].tokens.size() >= num_tokens; });
  }

  Completion completion(size_t request_idx, uint32_t completion_idx = 0) {
    const std::lock_guard lock(mutex_);
    return completions_[{request_idx, completion_idx}];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<size_t, uint32_t>, Completion> completions_;
  size_t num_finished_ = 0;
};

std::vector<Completion> run(Engine& engine, Request request) {
  auto completions = generate(engine, std::move(request));
  NF_CHECK(completions) << completions.error().message;
  return std::move(*completions);
}

void expect_all_free(const Engine& engine) {
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.num_running, 0);
  EXPECT_EQ(stats.num_waiting, 0);
  EXPECT_EQ(stats.num_free_blocks, stats.num_blocks);
  EXPECT_EQ(stats.num_free_state_slots, stats.num_state_slots);
}

TEST(Engine, greedy_output_equals_the_golden) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Request request;
  request.prompt_token_ids = golden_ids("greedy.prompt_ids");
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  const auto expected = golden_ids("greedy.output_ids");
  request.max_tokens = static_cast<int32_t>(expected.size());
  const Completion completion = run(*engine, request)[0];
  EXPECT_EQ(completion.token_ids(), expected);
  EXPECT_EQ(completion.finish.reason, FinishReason::kLength);
  EXPECT_EQ(completion.finish.usage.prompt_tokens, 16);
  EXPECT_EQ(completion.finish.usage.completion_tokens, 48);
  EXPECT_EQ(completion.text, tiny.tokenizer().decode(expected, true));
  const Timings& timings = completion.finish.timings;
  EXPECT_LE(timings.arrival, timings.scheduled);
  EXPECT_LE(timings.scheduled, timings.first_token);
  EXPECT_LT(timings.first_token, timings.last_token);
  engine->drain();
  expect_all_free(*engine);
}

// Requests of every kind: short and long prompts, greedy and not, penalties, logprobs.
std::vector<Request> varied_requests() {
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 20; ++i) {
    Request request =
        random_request(1 + static_cast<int64_t>(i * i) % 90, 100 + i, 12 + static_cast<int32_t>(i));
    if (i % 3 == 0) request.sampling.temperature = 0;
    if (i % 4 == 1) request.sampling.top_p = 0.8F;
    if (i % 5 == 2) request.sampling.repetition_penalty = 1.3F;
    if (i % 2 == 1) request.sampling.top_logprobs = 3;
    requests.push_back(std::move(request));
  }
  return requests;
}

void expect_equal(const Completion& actual, const Completion& expected) {
  EXPECT_EQ(actual.tokens, expected.tokens) << "token ids or logprobs";
  EXPECT_EQ(actual.text, expected.text);
  EXPECT_EQ(actual.finish.reason, expected.finish.reason);
}

TEST(Engine, requests_together_give_bit_for_bit_what_each_gives_alone) {
  TinyModel tiny;
  const std::vector<Request> requests = varied_requests();
  std::vector<Completion> alone;
  {
    const auto engine = tiny.engine(tiny_config());
    for (const Request& request : requests) alone.push_back(run(*engine, request)[0]);
  }
  const auto engine = tiny.engine(tiny_config());
  Collector together;
  for (size_t i = 0; i < requests.size(); ++i)
    ASSERT_TRUE(engine->add_request(requests[i], together.sink(i)));
  together.wait_for(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(i);
    expect_equal(together.completion(i), alone[i]);
  }
  engine->drain();
  expect_all_free(*engine);
}

// Runs the requests together, again where this thread was so slow to add them that they did not meet.
void run_until_preempted(Engine& engine, const std::vector<Request>& requests,
                         const std::function<void(Collector&)>& check) {
  for (int round = 0; round < 50 && engine.stats().num_preemptions == 0; ++round) {
    Collector together;
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_TRUE(engine.add_request(requests[i], together.sink(i)));
    }
    together.wait_for(requests.size());
    check(together);
  }
  EXPECT_GT(engine.stats().num_preemptions, 0);
}

TEST(Engine, preempted_requests_give_what_they_give_alone) {
  TinyModel tiny;
  const std::vector<Request> requests = varied_requests();
  std::vector<Completion> alone;
  {
    const auto engine = tiny.engine(tiny_config());
    for (const Request& request : requests) alone.push_back(run(*engine, request)[0]);
  }
  EngineConfig config = tiny_config();
  config.max_model_len = 128;
  config.num_blocks = 20;
  const auto engine = tiny.engine(config);
  run_until_preempted(*engine, requests, [&](Collector& together) {
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(i);
      expect_equal(together.completion(i), alone[i]);
    }
  });
  engine->drain();
  expect_all_free(*engine);
}

TEST(Engine, n_samples_of_a_prompt_equal_n_requests) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Request request = random_request(45, 3, 20);
  request.n = 11;  // more than run at a time
  request.sampling.top_logprobs = 0;
  const std::vector<Completion> samples = run(*engine, request);
  ASSERT_EQ(samples.size(), 11U);
  EXPECT_EQ(engine->stats().prefilled_tokens, 45) << "the prompt passes through the model once";
  std::set<std::vector<int32_t>> distinct;
  for (size_t i = 0; i < samples.size(); ++i) {
    SCOPED_TRACE(i);
    Request alone = request;
    alone.n = 1;
    alone.first_sample_idx = static_cast<uint32_t>(i);
    expect_equal(samples[i], run(*engine, alone)[0]);
    distinct.insert(samples[i].token_ids());
  }
  EXPECT_EQ(distinct.size(), 11U);
  engine->drain();
  expect_all_free(*engine);
}

TEST(Engine, n_samples_under_preemption_equal_n_requests) {
  TinyModel tiny;
  Request request = random_request(45, 4, 40);
  request.n = 6;
  const std::vector<Completion> expected = run(*tiny.engine(tiny_config()), request);
  EngineConfig config = tiny_config();
  config.max_model_len = 96;
  config.num_blocks = 18;
  const auto engine = tiny.engine(config);
  const std::vector<Completion> samples = run(*engine, request);
  EXPECT_GT(engine->stats().num_preemptions, 0);
  for (size_t i = 0; i < samples.size(); ++i) expect_equal(samples[i], expected[i]);
  engine->drain();
  expect_all_free(*engine);
}

// A cold engine's answer to one request.
Completion cold(TinyModel& tiny, const Request& request) {
  EngineConfig config = tiny_config();
  config.enable_prefix_caching = false;
  return run(*tiny.engine(config), request)[0];
}

std::vector<int32_t> join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(Engine, a_prompt_seen_before_is_answered_from_the_cache_with_the_same_bits) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Request request = random_request(90, 11, 20);
  request.sampling.top_logprobs = 5;
  const Completion expected = cold(tiny, request);
  const Completion first = run(*engine, request)[0];
  EXPECT_EQ(first.finish.usage.cached_tokens, 0);
  expect_equal(first, expected);
  const Completion second = run(*engine, request)[0];
  EXPECT_EQ(second.finish.usage.cached_tokens, 80) << "the last multiple of 16 before the last token";
  expect_equal(second, expected);
  EXPECT_EQ(engine->stats().prefilled_tokens, 100);
  EXPECT_EQ(engine->stats().prefix_cache_hits, 80);
  EXPECT_EQ(engine->stats().prefix_cache_queries, 180);
  engine->drain();
  expect_all_free(*engine);
}

TEST(Engine, prompts_with_a_common_beginning_share_it_from_the_third_on) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  const std::vector<int32_t> common = random_prompt(70, 12);
  for (uint64_t i = 0; i < 4; ++i) {
    SCOPED_TRACE(i);
    Request request = random_request(1, 20 + i, 12);
    request.prompt_token_ids = join(common, random_prompt(25, 30 + i));
    const Completion completion = run(*engine, request)[0];
    expect_equal(completion, cold(tiny, request));
    EXPECT_EQ(completion.finish.usage.cached_tokens, i < 2 ? 0 : 64) << "the second finds where they part";
  }
}

TEST(Engine, a_conversation_goes_on_from_its_last_prompt) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Request request = random_request(50, 13, 20);
  int32_t previous_len = 0;
  for (uint64_t turn = 0; turn < 4; ++turn) {
    SCOPED_TRACE(turn);
    const Completion completion = run(*engine, request)[0];
    expect_equal(completion, cold(tiny, request));
    EXPECT_EQ(completion.finish.usage.cached_tokens, turn == 0 ? 0 : (previous_len - 1) / 16 * 16);
    previous_len = static_cast<int32_t>(request.prompt_token_ids.size());
    request.prompt_token_ids =
        join(join(request.prompt_token_ids, completion.token_ids()), random_prompt(10, 40 + turn));
  }
}

TEST(Engine, a_small_cache_under_traffic_never_changes_an_answer) {
  TinyModel tiny;
  std::vector<Request> requests;
  Rng rng(14);
  for (uint64_t i = 0; i < 24; ++i) {
    Request request = random_request(1, i, 4 + static_cast<int32_t>(rng.below(20)));
    request.prompt_token_ids = random_prompt(16 * static_cast<int64_t>(1 + rng.below(4)), 50 + rng.below(3));
    request.prompt_token_ids =
        join(request.prompt_token_ids, random_prompt(1 + static_cast<int64_t>(rng.below(20)), i));
    request.n = 1 + static_cast<int32_t>(rng.below(3));
    requests.push_back(std::move(request));
  }
  EngineConfig config = tiny_config();
  config.max_model_len = 128;
  config.num_blocks = 24;
  const auto engine = tiny.engine(config);
  run_until_preempted(*engine, requests, [&](Collector& outputs) {
    for (size_t i = 0; i < requests.size(); ++i) {
      for (int32_t sample = 0; sample < requests[i].n; ++sample) {
        SCOPED_TRACE(i);
        Request alone = requests[i];
        alone.n = 1;
        alone.first_sample_idx = static_cast<uint32_t>(sample);
        expect_equal(outputs.completion(i, alone.first_sample_idx), cold(tiny, alone));
      }
    }
  });
  EXPECT_GT(engine->stats().prefix_cache_hits, 0);
  engine->drain();
  expect_all_free(*engine);
}

TEST(Engine, a_cancelled_request_ends_and_frees_its_caches) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Collector outputs;
  // So long that it cannot be over before it is cancelled.
  constexpr int32_t kSamples = 200;
  Request endless = random_request(20, 5, 230);
  endless.n = kSamples;
  const auto first = engine->add_request(endless, outputs.sink(0));
  Request urgent = random_request(20, 6, 30);
  urgent.priority = -1;
  const auto second = engine->add_request(urgent, outputs.sink(1));
  ASSERT_TRUE(first && second);
  outputs.wait_for_tokens(0, 3);
  engine->cancel(*first);
  outputs.wait_for(2);
  int64_t num_aborted = 0;
  for (uint32_t i = 0; i < kSamples; ++i) {
    const Completion completion = outputs.completion(0, i);
    if (completion.finish.reason != FinishReason::kAbort) continue;
    ++num_aborted;
    EXPECT_LT(completion.tokens.size(), 230U);
  }
  EXPECT_EQ(outputs.completion(0, kSamples - 1).finish.reason, FinishReason::kAbort);
  EXPECT_EQ(outputs.completion(1).finish.reason, FinishReason::kLength);
  engine->cancel(*first);
  engine->cancel(999);
  engine->drain();
  expect_all_free(*engine);
  EXPECT_EQ(engine->stats().finished_abort, num_aborted);
}

TEST(Engine, a_stop_string_across_tokens_ends_the_text_before_it) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Request request = random_request(20, 7, 60);
  request.sampling.temperature = 0;
  for (int id = 0; id < 16; ++id) request.sampling.bad_token_ids.push_back(id);
  // Only ASCII bytes and words, so that a few characters are a few tokens.
  for (int id = 0; id < 128; ++id) request.sampling.allowed_token_ids.push_back(kFirstByteToken + id);
  const Completion whole = run(*engine, request)[0];
  ASSERT_EQ(whole.text.size(), 60U);
  const std::string stop = whole.text.substr(20, 4);
  const size_t at = whole.text.find(stop);
  request.stop = {"never said", stop};
  const Completion stopped = run(*engine, request)[0];
  EXPECT_EQ(stopped.text, whole.text.substr(0, at));
  EXPECT_EQ(stopped.tokens.size(), at + 4) << "tokens up to the one that completes it";
  EXPECT_EQ(stopped.finish.reason, FinishReason::kStop);
  EXPECT_EQ(std::get<std::string>(stopped.finish.stop_reason), stop);
  request.include_stop_str_in_output = true;
  EXPECT_EQ(run(*engine, request)[0].text, whole.text.substr(0, at + 4));
  engine->drain();
  expect_all_free(*engine);
}

TEST(Engine, stop_tokens_and_end_of_sequence_tokens_end_a_completion) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Request request = random_request(20, 8, 40);
  request.sampling.temperature = 0;
  const Completion whole = run(*engine, request)[0];
  request.sampling.stop_token_ids = {whole.tokens[5].token_id};
  const Completion stopped = run(*engine, request)[0];
  ASSERT_LE(stopped.tokens.size(), 6U);
  EXPECT_EQ(stopped.tokens.back().token_id, whole.tokens[5].token_id);
  EXPECT_EQ(stopped.finish.reason, FinishReason::kStop);
  EXPECT_EQ(std::get<int32_t>(stopped.finish.stop_reason), whole.tokens[5].token_id);

  request.sampling.stop_token_ids.clear();
  request.sampling.ignore_eos = false;
  request.sampling.logit_bias = {{2, 100.0F}};
  request.sampling.min_tokens = 4;
  const Completion ended = run(*engine, request)[0];
  EXPECT_EQ(ended.tokens.size(), 5U);
  EXPECT_EQ(ended.tokens.back().token_id, 2);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(ended.finish.stop_reason));
}

TEST(Engine, a_thinking_budget_ends_the_thought_and_the_answer_follows) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Request request = random_request(20, 9, 60);
  request.prompt_token_ids.push_back(kThinkStart);
  request.sampling.bad_token_ids = {kThinkStart, kThinkEnd, 14, 15, byte_token('\n')};
  request.sampling.top_logprobs = 2;
  const Completion unbounded = run(*engine, request)[0];
  EXPECT_EQ(unbounded.finish.usage.reasoning_tokens, 60);

  for (const int32_t budget : {0, 1, 17, 30}) {
    for (const int32_t grace : {0, 9}) {
      SCOPED_TRACE(::testing::Message() << budget << " + " << grace);
      request.thinking_budget = ThinkingBudget{budget, grace};
      const Completion completion = run(*engine, request)[0];
      const int32_t thought = budget == 0 ? 0 : budget + grace;
      EXPECT_EQ(completion.finish.usage.reasoning_tokens, thought);
      EXPECT_EQ(completion.tokens[static_cast<size_t>(thought)].token_id, kThinkEnd);
      EXPECT_EQ(completion.tokens[static_cast<size_t>(thought)].top_logprobs.size(), 2U);
      EXPECT_EQ(completion.tokens.size(), 60U);
      for (int32_t i = 0; i < thought; ++i) {
        EXPECT_EQ(completion.tokens[static_cast<size_t>(i)], unbounded.tokens[static_cast<size_t>(i)]);
      }
    }
  }

  // With a line feed after the 8th token, the thought ends there.
  request.sampling.bad_token_ids = {kThinkStart, kThinkEnd, 14, 15};
  request.sampling.logit_bias = {{byte_token('\n'), 3.0F}};
  request.thinking_budget = ThinkingBudget{8, 40};
  const Completion completion = run(*engine, request)[0];
  const auto thought = static_cast<size_t>(completion.finish.usage.reasoning_tokens);
  EXPECT_GE(thought, 8U);
  EXPECT_LE(thought, 48U);
  EXPECT_EQ(completion.tokens[thought].token_id, kThinkEnd);
  if (thought < 48) {
    EXPECT_EQ(completion.tokens[thought - 1].token_id, byte_token('\n'));
  }
}

TEST(Engine, says_what_is_wrong_with_a_request) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  const auto refused = [&](const std::function<void(Request&)>& spoil) {
    Request request = random_request(20, 9, 10);
    spoil(request);
    const auto id = engine->add_request(request, [](RequestOutput&&) { ADD_FAILURE() << "sink called"; });
    if (id) return std::string("accepted");
    EXPECT_EQ(id.error().code, ErrorCode::kInvalidArgument);
    return id.error().message;
  };
  EXPECT_THAT(refused([](Request& r) { r.prompt_token_ids.clear(); }), HasSubstr("prompt"));
  EXPECT_THAT(refused([](Request& r) { r.prompt_token_ids[3] = 320; }), HasSubstr("token id 320"));
  EXPECT_THAT(refused([](Request& r) { r.prompt_token_ids = random_prompt(256, 1); }),
              HasSubstr("256 tokens"));
  EXPECT_THAT(refused([](Request& r) { r.max_tokens = 0; }), HasSubstr("max_tokens"));
  EXPECT_THAT(refused([](Request& r) { r.max_tokens = 237; }), HasSubstr("maximum context length is 256"));
  EXPECT_THAT(refused([](Request& r) { r.max_tokens = std::numeric_limits<int32_t>::max(); }),
              HasSubstr("maximum context length"));
  EXPECT_THAT(refused([](Request& r) { r.sampling.min_tokens = 11; }), HasSubstr("min_tokens"));
  EXPECT_THAT(refused([](Request& r) { r.prompt_top_logprobs = 21; }), HasSubstr("prompt_logprobs"));
  EXPECT_THAT(refused([](Request& r) { r.n = 0; }), HasSubstr("n must be"));
  EXPECT_THAT(refused([](Request& r) { r.stop = {""}; }), HasSubstr("stop"));
  EXPECT_THAT(refused([](Request& r) { r.stop = {"\x80"}; }), HasSubstr("stop"));
  EXPECT_THAT(refused([](Request& r) { r.sampling.top_p = 2; }), HasSubstr("top_p"));
  EXPECT_THAT(refused([](Request& r) { r.thinking_budget = ThinkingBudget{-1, 0}; }), HasSubstr("thinking"));
}

TEST(Engine, a_request_whose_constraints_leave_nothing_ends_alone) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Collector outputs;
  Request impossible = random_request(20, 9, 10);
  impossible.sampling.allowed_token_ids = {40};
  impossible.sampling.bad_token_ids = {40};
  ASSERT_TRUE(engine->add_request(impossible, outputs.sink(0)));
  ASSERT_TRUE(engine->add_request(random_request(20, 10, 10), outputs.sink(1)));
  outputs.wait_for(2);
  EXPECT_EQ(outputs.completion(0).finish.reason, FinishReason::kError);
  ASSERT_TRUE(outputs.completion(0).finish.error);
  EXPECT_EQ(outputs.completion(1).finish.reason, FinishReason::kLength);
  EXPECT_TRUE(engine->is_healthy());
  EXPECT_FALSE(generate(*engine, impossible));
}

TEST(Engine, prompt_logprobs_are_those_of_the_golden_logits) {
  TinyModel tiny;
  auto file = io::SafetensorsFile::open(TinyModel::folder() + "/golden.safetensors");
  ASSERT_TRUE(file);
  const ConstTensorView golden = *file->find("prefill.2.logits");
  const auto vocab_size = static_cast<size_t>(golden.size(1));
  Request request;
  request.prompt_token_ids = golden_ids("prefill.2.input_ids");
  ASSERT_EQ(request.prompt_token_ids.size(), 67U);
  request.max_tokens = 3;
  request.n = 2;
  request.prompt_top_logprobs = 4;
  const auto engine = tiny.engine(tiny_config());
  for (const char* cache : {"cold", "warm"}) {
    SCOPED_TRACE(cache);
    const auto completions = run(*engine, request);
    const auto& logprobs = completions[0].prompt_logprobs;
    ASSERT_EQ(logprobs.size(), 66U) << "of all but the first token";
    EXPECT_TRUE(completions[1].prompt_logprobs.empty());
    for (size_t i = 0; i < logprobs.size(); ++i) {
      const std::span<const float> row(golden.data<float>() + i * vocab_size, vocab_size);
      const auto expected = sampling::score(row, request.prompt_token_ids[i + 1], 4);
      ASSERT_TRUE(expected);
      EXPECT_EQ(logprobs[i].token_id, request.prompt_token_ids[i + 1]);
      EXPECT_NEAR(logprobs[i].logprob, expected->logprob, 2e-4);
      ASSERT_EQ(logprobs[i].top_logprobs.size(), 4U);
      EXPECT_NEAR(logprobs[i].top_logprobs[0].logprob, expected->top_logprobs[0].logprob, 2e-4);
    }
  }
}

std::shared_ptr<const model::LoraAdapter> load_adapter(const std::string& golden, ops::Backend& backend) {
  const std::string folder = std::string(NEMOFORGE_SOURCE_DIR) + "/tests/golden/" + golden;
  const auto config = model::load_model_config(folder);
  NF_CHECK(config) << config.error().message;
  auto adapter = model::LoraAdapter::load(folder + "/adapter", *config, backend);
  NF_CHECK(adapter) << adapter.error().message;
  return std::make_shared<const model::LoraAdapter>(std::move(*adapter));
}

TEST(Engine, adapters_and_base_share_a_batch_and_no_cache) {
  TinyModel tiny;
  const auto adapter = load_adapter("tiny", tiny.backend());
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 8; ++i) {
    Request request = random_request(40, 60 + i / 2, 20);  // pairs of equal prompts
    request.sampling.top_logprobs = 2;
    if (i % 2 == 1) request.adapter = adapter;
    requests.push_back(std::move(request));
  }
  const auto engine = tiny.engine(tiny_config());
  Collector outputs;
  for (size_t i = 0; i < requests.size(); ++i) ASSERT_TRUE(engine->add_request(requests[i], outputs.sink(i)));
  outputs.wait_for(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(i);
    expect_equal(outputs.completion(i), cold(tiny, requests[i]));
  }
  for (size_t i = 0; i < requests.size(); i += 2) {
    EXPECT_NE(outputs.completion(i).tokens[0].logprob, outputs.completion(i + 1).tokens[0].logprob);
  }
}

TEST(Engine, a_failed_step_fails_its_requests_and_the_engine_says_so) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Collector outputs;
  const auto adapter_of_another_model = load_adapter("nano_shaped", tiny.backend());
  // So many samples that they cannot be over before the step fails.
  Request endless = random_request(20, 15, 230);
  endless.n = 200;
  ASSERT_TRUE(engine->add_request(endless, outputs.sink(0)));
  outputs.wait_for_tokens(0, 2);
  // An adapter of another model, which no caller of ours would pass: its shapes fail an invariant.
  Request wrong = random_request(20, 16, 10);
  wrong.adapter = adapter_of_another_model;
  wrong.priority = -1;
  ASSERT_TRUE(engine->add_request(wrong, outputs.sink(1)));
  outputs.wait_for(2);
  for (const Completion& completion : {outputs.completion(0, 199), outputs.completion(1)}) {
    EXPECT_EQ(completion.finish.reason, FinishReason::kError);
    ASSERT_TRUE(completion.finish.error);
    EXPECT_THAT(completion.finish.error->message, HasSubstr("step failed"));
  }
  EXPECT_FALSE(engine->is_healthy());
  const auto late = engine->add_request(random_request(20, 16, 10), outputs.sink(2));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kUnavailable);
}

TEST(Engine, after_drain_it_takes_no_more) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  Collector outputs;
  ASSERT_TRUE(engine->add_request(random_request(20, 9, 50), outputs.sink(0)));
  engine->drain();
  EXPECT_EQ(outputs.completion(0).tokens.size(), 50U) << "what it had is finished";
  const auto late = engine->add_request(random_request(20, 9, 50), outputs.sink(1));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kUnavailable);
}

TEST(Engine, destruction_aborts_what_runs_and_what_waits) {
  TinyModel tiny;
  Collector outputs;
  constexpr size_t kRequests = 200;
  {
    const auto engine = tiny.engine(tiny_config());
    for (size_t i = 0; i < kRequests; ++i) {
      ASSERT_TRUE(engine->add_request(random_request(20, i, 230), outputs.sink(i)));
    }
    outputs.wait_for_tokens(0, 1);
  }
  outputs.wait_for(kRequests);
  EXPECT_EQ(outputs.completion(kRequests - 1).finish.reason, FinishReason::kAbort);
}

TEST(Engine, clients_on_many_threads_get_their_own_outputs) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  const std::vector<Request> requests = varied_requests();
  std::vector<Completion> alone;
  for (const Request& request : requests) alone.push_back(run(*engine, request)[0]);
  std::vector<std::future<void>> clients;
  for (uint64_t client = 0; client < 6; ++client) {
    clients.push_back(std::async(std::launch::async, [&, client] {
      Rng rng(client);
      for (int i = 0; i < 8; ++i) {
        const size_t which = rng.below(requests.size());
        const bool cancels = rng.below(4) == 0;
        const auto completions =
            generate(*engine, requests[which], [&](const RequestOutput&) { return !cancels; });
        ASSERT_TRUE(completions);
        if (!cancels) expect_equal((*completions)[0], alone[which]);
        (void)engine->stats();
      }
    }));
  }
  for (auto& client : clients) client.get();
  engine->drain();
  expect_all_free(*engine);
}

TEST(Engine, statistics_count_what_happened) {
  TinyModel tiny;
  const auto engine = tiny.engine(tiny_config());
  for (uint64_t i = 0; i < 3; ++i) (void)run(*engine, random_request(30, i, 10));
  engine->drain();
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.prompt_tokens, 90);
  EXPECT_EQ(stats.prefilled_tokens, 90);
  EXPECT_EQ(stats.generation_tokens, 30);
  EXPECT_EQ(stats.finished_length, 3);
  const auto total = [](const Histogram& histogram) {
    int64_t count = 0;
    for (const int64_t bucket : histogram.counts()) count += bucket;
    return count;
  };
  EXPECT_EQ(total(stats.time_to_first_token_s), 3);
  EXPECT_EQ(total(stats.inter_token_latency_s), 27);
  EXPECT_EQ(total(stats.request_latency_s), 3);
  EXPECT_GT(stats.request_latency_s.sum(), 0);
  EXPECT_GT(stats.forward_s, 0);
  EXPECT_GT(stats.step_s, stats.forward_s);
}

}  // namespace
}  // namespace nemoforge::engine
