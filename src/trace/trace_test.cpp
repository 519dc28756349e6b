#include "trace/trace.h"

#include <atomic>
#include <map>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/temporary_folder.h"
#include "io/json.h"
#include "trace/endpoint_source.h"
#include "trace/stub_endpoint.h"

namespace nemoforge::trace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

bool never() {
  return false;
}

// Runs against real endpoint processes and a real database.
class TraceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"first", "second", "third"}) {
      problems_.push_back({.id = name, .source = std::string("# ") + name, .path = name, .content_hash = ""});
    }
    config_.num_samples = 4;
    config_.seed = 5;
    config_.resume = true;
  }

  [[nodiscard]] store::RunStore open(store::Access access = store::Access::kTrace) const {
    auto run = store::RunStore::open(dir_ + "/run", access, {.command = "trace", .nemoforge_version = "0"});
    EXPECT_TRUE(run.has_value()) << run.error().to_string();
    return std::move(*run);
  }
  [[nodiscard]] static EndpointConfig endpoints(std::vector<std::string> urls) {
    EndpointConfig config;
    config.urls = std::move(urls);
    config.backoff = {.base_s = 0.001, .max_s = 0.01};
    config.give_up_after_s = 20;
    return config;
  }
  [[nodiscard]] Result<TraceReport> generate(store::RunStore& run, const EndpointConfig& endpoint_config,
                                             const std::function<bool()>& stopped = never) const {
    NF_TRY(EndpointSource source, EndpointSource::connect(endpoint_config, config_.sampling, stopped));
    ProgressOutput silent;
    silent.write = [](std::string_view) {};
    silent.now_s = [] { return 0.0; };
    return generate_traces(run, problems_, PromptTemplate::zero_shot(), source, config_, silent, stopped);
  }
  // Every trace of the run, whole and under its own seed.
  static std::map<std::pair<std::string, int64_t>, store::Trace> traces_of(const store::RunStore& run) {
    std::map<std::pair<std::string, int64_t>, store::Trace> traces;
    EXPECT_TRUE(run.for_each_trace([&](store::JudgedTrace&& judged) {
      store::Trace& trace = judged.trace;
      EXPECT_EQ(trace.seed, trace_seed(5, trace.problem_id, trace.sample_idx));
      EXPECT_EQ(trace.code, "seed = " + std::to_string(trace.seed) + "\n");
      EXPECT_EQ(trace.reasoning, "thought of " + std::to_string(trace.seed));
      EXPECT_TRUE(traces.emplace(std::pair(trace.problem_id, trace.sample_idx), std::move(trace)).second);
      return true;
    }));
    return traces;
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
  std::vector<Problem> problems_;
  TraceConfig config_;
};

TEST_F(TraceTest, stores_every_sample_with_its_provenance) {
  StubEndpoint endpoint({"--api-key", "secret"});
  store::RunStore run = open();
  EndpointConfig config = endpoints({endpoint.url()});
  config.api_key = "secret";
  const auto report = generate(run, config);
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(report->num_generated, 12);
  EXPECT_EQ(report->num_with_code, 12);
  EXPECT_EQ(report->num_completion_tokens, 36);
  EXPECT_FALSE(report->interrupted);
  const auto traces = traces_of(run);
  ASSERT_THAT(traces, SizeIs(12));
  const store::Trace& trace = traces.at({"second", 3});
  EXPECT_THAT(trace.prompt_token_ids, SizeIs(7));
  EXPECT_THAT(trace.completion_token_ids, ElementsAre(static_cast<int32_t>(trace.seed % 1000), 13, 11));
  EXPECT_THAT(trace.completion_logprobs, ElementsAre(-0.5F, -0.25F, 0.0F));
  EXPECT_EQ(trace.model, "stub-model");
  EXPECT_EQ(trace.finish_reason, "stop");
  EXPECT_EQ(trace.num_prompt_tokens, 7);
  EXPECT_EQ(trace.num_reasoning_tokens, 1);
  EXPECT_EQ(trace.endpoint, endpoint.url() + "/v1");
  EXPECT_GE(trace.finished_ms, trace.started_ms);
  const auto messages = io::parse_json(trace.messages_json);
  EXPECT_EQ((*messages)[0]["content"], PromptTemplate::zero_shot().render("# second"));
  const auto sampling = io::parse_json(trace.sampling_json);
  EXPECT_EQ((*sampling)["seed"], 5);
  EXPECT_EQ((*sampling)["prompt_template"], PromptTemplate::zero_shot().hash());
}

TEST_F(TraceTest, faults_of_endpoints_cost_nothing) {
  StubEndpoint failing({"--fail-every", "3"});
  StubEndpoint busy({"--fail-every", "2", "--fail-status", "429"});
  StubEndpoint dropping({"--drop-every", "3"});
  StubEndpoint babbling({"--garbage-every", "3"});
  StubEndpoint strict({"--strict"});
  store::RunStore run = open();
  config_.num_samples = 20;
  EndpointConfig config = endpoints({failing.url(), busy.url(), dropping.url(), babbling.url(), strict.url(),
                                     "http://127.0.0.1:1"});  // where nothing listens
  config.max_in_flight_each = 3;
  config.model = "named";
  const auto report = generate(run, config);
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(report->num_failed, 0) << report->first_failure;
  const auto traces = traces_of(run);
  EXPECT_THAT(traces, SizeIs(60));
  std::map<std::string, int> by_endpoint;
  for (const auto& [key, trace] : traces) ++by_endpoint[trace.endpoint];
  EXPECT_THAT(by_endpoint, SizeIs(5));
}

TEST_F(TraceTest, endpoints_may_leave_and_return) {
  int port = 0;
  store::RunStore run = open();
  {
    StubEndpoint leaving({"--exit-after", "5"});
    port = leaving.port();
    EndpointConfig config = endpoints({leaving.url()});
    config.max_in_flight_each = 1;
    config.give_up_after_s = 0.05;
    const auto report = generate(run, config);
    ASSERT_FALSE(report.has_value());
    EXPECT_EQ(report.error().code, ErrorCode::kUnavailable);
    EXPECT_THAT(report.error().to_string(), HasSubstr("--resume"));
    EXPECT_EQ(leaving.wait_for_answers(100), 5);
  }
  const size_t num_stored = traces_of(run).size();
  EXPECT_GE(num_stored, 4u);
  EXPECT_LE(num_stored, 5u);
  // The next run begins before its endpoint is there again.
  std::unique_ptr<StubEndpoint> returned;
  int num_asked = 0;
  const auto start_at_third_question = [&] {
    if (++num_asked == 3) {
      returned = std::make_unique<StubEndpoint>(std::vector<std::string>{"--port", std::to_string(port)});
    }
    return false;
  };
  EndpointConfig config = endpoints({"http://127.0.0.1:" + std::to_string(port)});
  config.model = "stub-model";
  const auto report = generate(run, config, start_at_third_question);
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(report->num_earlier, static_cast<int64_t>(num_stored));
  EXPECT_THAT(traces_of(run), SizeIs(12));
}

TEST_F(TraceTest, a_refused_request_is_given_up_alone) {
  StubEndpoint endpoint;
  problems_[1].source = "# REFUSE";
  store::RunStore run = open();
  const auto report = generate(run, endpoints({endpoint.url()}));
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(report->num_generated, 8);
  EXPECT_EQ(report->num_failed, 4);
  EXPECT_THAT(report->first_failure, HasSubstr("second, sample "));
  EXPECT_THAT(report->first_failure, HasSubstr("too long"));
  for (const auto& [key, trace] : traces_of(run)) {
    EXPECT_THAT(trace.completion_token_ids, SizeIs(3)) << "one refusal says nothing about the endpoint";
  }
}

TEST_F(TraceTest, a_server_that_always_fails_a_request_is_not_asked_for_ever) {
  StubEndpoint endpoint({"--fail-every", "1"});
  store::RunStore run = open();
  EndpointConfig config = endpoints({endpoint.url()});
  config.model = "m";
  config.max_attempts = 2;
  const auto report = generate(run, config);
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(report->num_failed, 12);
  EXPECT_THAT(report->first_failure, HasSubstr("out of order (attempt 2)"));
}

TEST_F(TraceTest, a_refused_client_ends_the_run) {
  StubEndpoint endpoint({"--api-key", "secret"});
  store::RunStore run = open();
  for (const char* model : {"", "named"}) {
    EndpointConfig config = endpoints({endpoint.url()});
    config.model = model;
    config.api_key = "guess";
    const auto report = generate(run, config);
    ASSERT_FALSE(report.has_value());
    EXPECT_THAT(report.error().to_string(), HasSubstr("401: wrong API key"));
  }
  const auto wrong_path = generate(run, endpoints({endpoint.url() + "/api"}));
  EXPECT_FALSE(wrong_path.has_value());
}

TEST_F(TraceTest, an_interrupted_run_keeps_what_it_has_and_continues) {
  StubEndpoint endpoint;
  store::RunStore run = open();
  int num_asked = 0;
  EndpointConfig config = endpoints({endpoint.url()});
  config.max_in_flight_each = 1;
  const auto after_some = [&] { return ++num_asked > 8; };
  const auto stopped = generate(run, config, after_some);
  ASSERT_TRUE(stopped.has_value()) << stopped.error().to_string();
  EXPECT_TRUE(stopped->interrupted);
  EXPECT_LT(stopped->num_generated, 12);
  config_.resume = false;
  const auto refused = generate(run, config);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().to_string(), HasSubstr("--resume"));
  config_.resume = true;
  const auto finished = generate(run, config);
  ASSERT_TRUE(finished.has_value());
  EXPECT_EQ(finished->num_earlier, stopped->num_generated);
  EXPECT_EQ(finished->num_generated, 12 - stopped->num_generated);
  EXPECT_THAT(traces_of(run), SizeIs(12));
  EXPECT_EQ(generate(run, config)->num_generated, 0);
}

TEST_F(TraceTest, a_run_does_not_mix_settings) {
  StubEndpoint endpoint;
  store::RunStore run = open();
  ASSERT_TRUE(generate(run, endpoints({endpoint.url()})).has_value());
  config_.num_samples = 5;
  config_.sampling.temperature = 0.5;
  const auto report = generate(run, endpoints({endpoint.url()}));
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(report.error().message, HasSubstr("another sampling"));
}

// The child traces until the endpoint holds back its answers, then it is killed: what it had stored is there,
// unchanged, and only the rest is asked for again.
TEST_F(TraceTest, a_killed_run_loses_and_repeats_nothing) {
  StubEndpoint first({"--hold-after", "7"});
  EndpointConfig config = endpoints({first.url()});
  config.max_in_flight_each = 3;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    store::RunStore run = open();
    (void)generate(run, config);
    _exit(0);
  }
  EXPECT_EQ(first.wait_for_answers(7), 7);
  ASSERT_EQ(kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));

  store::RunStore run = open();
  const auto stored = traces_of(run);
  EXPECT_GE(stored.size(), 4u);  // at most those in flight can be answered and not yet stored
  EXPECT_LE(stored.size(), 7u);
  StubEndpoint second;
  const auto report = generate(run, endpoints({second.url()}));
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(report->num_earlier, static_cast<int64_t>(stored.size()));
  EXPECT_EQ(report->num_generated, 12 - static_cast<int64_t>(stored.size()));
  const auto all = traces_of(run);
  EXPECT_THAT(all, SizeIs(12));
  for (const auto& [key, trace] : stored) EXPECT_EQ(all.at(key).id, trace.id);
}

// Verdicts as a verifier beside the tracer would store them.
class RefinementTest : public TraceTest {
 protected:
  // The attempt from which on a problem's samples are correct; absent: never.
  std::map<std::string, int64_t> correct_from_;
  int num_verifications_ = 0;

  void SetUp() override {
    TraceTest::SetUp();
    config_.num_samples = 2;
    config_.num_attempts = 3;
    config_.verify = [this]() -> Status {
      ++num_verifications_;
      NF_TRY(store::RunStore run, store::RunStore::open(dir_ + "/run", store::Access::kVerify));
      NF_TRY(const std::vector<int64_t> ids, run.unverified_traces("interpret"));
      for (const int64_t id : ids) {
        NF_TRY(const auto trace, run.trace(id));
        const auto from = correct_from_.find(trace->problem_id);
        store::Verdict verdict;
        verdict.trace_id = id;
        verdict.correct = from != correct_from_.end() && trace->attempt_idx >= from->second;
        verdict.verdict = verdict.correct ? "correct_cpu" : "mismatch";
        verdict.device = "interpret";
        verdict.record_json = R"({"detail":"off by )" + std::to_string(trace->attempt_idx) + R"("})";
        NF_RETURN_IF_ERROR(run.add_verdict(verdict));
      }
      return {};
    };
  }
  static std::map<std::string, int64_t> counts_of(const store::RunStore& run) {
    std::map<std::string, int64_t> counts;
    EXPECT_TRUE(run.for_each_trace([&counts](store::JudgedTrace&& judged) {
      ++counts[judged.trace.problem_id];
      return true;
    }));
    return counts;
  }
};

TEST_F(RefinementTest, a_failed_attempt_goes_back_with_its_verdict) {
  StubEndpoint endpoint;
  store::RunStore run = open();
  correct_from_ = {{"first", 0}, {"second", 1}};
  const auto report = generate(run, endpoints({endpoint.url()}));
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(counts_of(run), (std::map<std::string, int64_t>{{"first", 2}, {"second", 4}, {"third", 6}}));
  EXPECT_EQ(report->num_wanted, 12);
  EXPECT_EQ(report->num_generated, 12);
  EXPECT_EQ(num_verifications_, 2);
  std::map<int64_t, store::Trace> attempts;
  ASSERT_TRUE(run.for_each_trace([&attempts](store::JudgedTrace&& judged) {
    if (judged.trace.problem_id == "third" && judged.trace.sample_idx == 1) {
      attempts[judged.trace.attempt_idx] = std::move(judged.trace);
    }
    return true;
  }));
  ASSERT_THAT(attempts, SizeIs(3));
  const auto messages = io::parse_json(attempts[2].messages_json);
  ASSERT_THAT(*messages, SizeIs(5));
  EXPECT_EQ((*messages)[1]["content"], attempts[0].answer);
  EXPECT_EQ((*messages)[1]["reasoning_content"], attempts[0].reasoning);
  EXPECT_THAT((*messages)[2]["content"].get<std::string>(), HasSubstr("off by 0"));
  EXPECT_EQ((*messages)[3]["content"], attempts[1].answer);
  EXPECT_THAT((*messages)[4]["content"].get<std::string>(), HasSubstr("off by 1"));
  EXPECT_EQ(attempts[2].seed, trace_seed(5, "third", 1, 2));
  EXPECT_NE(attempts[1].seed, attempts[2].seed);
}

TEST_F(RefinementTest, resumes_in_the_middle_of_an_attempt) {
  StubEndpoint endpoint;
  store::RunStore run = open();
  EndpointConfig config = endpoints({endpoint.url()});
  config.max_in_flight_each = 1;
  int num_asked_after = 0;
  const auto stopped = generate(run, config, [&] { return num_verifications_ > 0 && ++num_asked_after > 5; });
  ASSERT_TRUE(stopped.has_value()) << stopped.error().to_string();
  EXPECT_TRUE(stopped->interrupted);
  EXPECT_LT(stopped->num_generated, 18);
  const auto rest = generate(run, config);
  ASSERT_TRUE(rest.has_value()) << rest.error().to_string();
  EXPECT_EQ(rest->num_wanted, 18);
  EXPECT_EQ(rest->num_earlier, stopped->num_generated);
  EXPECT_EQ(rest->num_generated, 18 - stopped->num_generated);
  EXPECT_EQ(generate(run, config)->num_generated, 0);
}

TEST_F(RefinementTest, a_server_of_openais_own_api_gets_no_reasoning_of_earlier_turns) {
  StubEndpoint endpoint({"--strict"});
  store::RunStore run = open();
  const auto report = generate(run, endpoints({endpoint.url()}));
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(report->num_generated, 18);
  EXPECT_EQ(report->num_failed, 0) << report->first_failure;
}

TEST(TraceSeed, is_its_own_for_each_trace_and_fits_json) {
  EXPECT_EQ(trace_seed(0, "p", 0), trace_seed(0, "p", 0));
  EXPECT_NE(trace_seed(0, "p", 0), trace_seed(0, "p", 1));
  EXPECT_NE(trace_seed(0, "p", 0), trace_seed(0, "p", 0, 1));
  EXPECT_NE(trace_seed(0, "p", 0), trace_seed(1, "p", 0));
  EXPECT_NE(trace_seed(0, "p", 0), trace_seed(0, "q", 0));
  EXPECT_NE(trace_seed(1, "0/p", 1), trace_seed(1, "p", 1));
  for (int64_t i = 0; i < 1000; ++i) EXPECT_LT(trace_seed(7, "p", i), uint64_t{1} << 53);
}

TEST(ApiBaseUrl, completes_what_users_write) {
  EXPECT_EQ(*api_base_url("http://h:8000"), "http://h:8000/v1");
  EXPECT_EQ(*api_base_url("http://h:8000/"), "http://h:8000/v1");
  EXPECT_EQ(*api_base_url("https://h/v1/"), "https://h/v1");
  EXPECT_EQ(*api_base_url("https://h/api/v2/chat/completions"), "https://h/api/v2");
  for (const char* bad : {"", "h:8000", "ftp://h", "file:///etc/passwd", "http://", "http://h?x=1"}) {
    EXPECT_FALSE(api_base_url(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace nemoforge::trace
