#include "store/run_store.h"

#include <csignal>
#include <filesystem>
#include <string>
#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/temporary_folder.h"
#include "store/sqlite.h"

namespace nemoforge::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class RunStoreTest : public ::testing::Test {
 protected:
  RunStore open(Access access = Access::kTrace) {
    auto store = RunStore::open(run_dir(), access, {"test", "0", "{}"});
    EXPECT_TRUE(store.has_value()) << store.error().to_string();
    return std::move(*store);
  }
  [[nodiscard]] std::string run_dir() const { return dir_ + "/run"; }

  static Problem problem(const std::string& id) { return {id, "class Model: pass  # " + id, "set", ""}; }
  static Trace trace(const std::string& problem_id, int64_t sample_idx) {
    Trace trace;
    trace.problem_id = problem_id;
    trace.sample_idx = sample_idx;
    trace.messages_json = R"([{"role":"user","content":"é"}])";
    trace.prompt = std::string("with a zero byte \0 inside", 25);
    trace.prompt_token_ids = {10, 1, 131071};
    trace.completion_token_ids = {12, 13, 11};
    trace.completion_logprobs = {-0.25f, -1e-7f, -30.5f};
    trace.template_hash = "abc";
    trace.completion = "<think>r</think>a";
    trace.reasoning = "r";
    trace.answer = "a";
    trace.code = "class ModelNew: pass";
    trace.num_prompt_tokens = 3;
    trace.num_completion_tokens = 3;
    trace.num_reasoning_tokens = 1;
    trace.finish_reason = "stop";
    trace.sampling_json = R"({"temperature":1.0})";
    trace.seed = 0xffffffffffffffffu;
    trace.model = "demo";
    trace.adapter = "none";
    trace.checkpoint_hash = "def";
    trace.started_ms = 1;
    trace.finished_ms = 2;
    return trace;
  }
  static Verdict verdict(int64_t trace_id, const std::string& name, bool correct) {
    Verdict verdict;
    verdict.trace_id = trace_id;
    verdict.verdict = name;
    verdict.correct = correct;
    verdict.device = "interpret";
    verdict.record_json = "{}";
    return verdict;
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
};

TEST_F(RunStoreTest, gives_back_what_was_stored) {
  RunStore store = open();
  ASSERT_TRUE(store.add_problem(problem("p")));
  const Trace stored = trace("p", 3);
  const auto id = store.add_trace(stored);
  ASSERT_TRUE(id.has_value()) << id.error().to_string();
  const auto found = store.trace(*id);
  ASSERT_TRUE(found.has_value() && found->has_value());
  const Trace& read = **found;
  EXPECT_EQ(read.id, *id);
  EXPECT_EQ(read.prompt, stored.prompt);
  EXPECT_EQ(read.messages_json, stored.messages_json);
  EXPECT_EQ(read.prompt_token_ids, stored.prompt_token_ids);
  EXPECT_EQ(read.completion_token_ids, stored.completion_token_ids);
  EXPECT_EQ(read.completion_logprobs, stored.completion_logprobs);
  EXPECT_EQ(read.code, stored.code);
  EXPECT_EQ(read.seed, stored.seed);
  EXPECT_EQ(read.checkpoint_hash, stored.checkpoint_hash);
  EXPECT_EQ(read.finished_ms, 2);
  const auto source = store.problem("p");
  ASSERT_TRUE(source.has_value() && source->has_value());
  EXPECT_EQ((*source)->overrides_json, "{}");
  EXPECT_FALSE(store.problem("q")->has_value());
  EXPECT_FALSE(store.trace(*id + 1)->has_value());
}

TEST_F(RunStoreTest, keeps_one_trace_of_each_problem_sample_and_attempt) {
  RunStore store = open();
  ASSERT_TRUE(store.add_problem(problem("p")));
  ASSERT_TRUE(store.add_trace(trace("p", 0)));
  EXPECT_TRUE(*store.has_trace("p", 0));
  EXPECT_FALSE(*store.has_trace("p", 1));
  EXPECT_FALSE(*store.has_trace("p", 0, 1));
  const auto again = store.add_trace(trace("p", 0));
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(again.error().message, HasSubstr("p, sample 0"));
  Trace second_attempt = trace("p", 0);
  second_attempt.attempt_idx = 1;
  EXPECT_TRUE(store.add_trace(second_attempt));
  EXPECT_FALSE(store.add_trace(trace("unknown problem", 0)).has_value());
}

TEST_F(RunStoreTest, refuses_another_text_under_a_known_problem_id) {
  RunStore store = open();
  ASSERT_TRUE(store.add_problem(problem("p")));
  EXPECT_TRUE(store.add_problem(problem("p")));
  Problem changed = problem("p");
  changed.source += "\n";
  EXPECT_FALSE(store.add_problem(changed).has_value());
  changed = problem("p");
  changed.overrides_json = R"({"N": 8})";
  EXPECT_FALSE(store.add_problem(changed).has_value());
  Problem broken = problem("q");
  broken.overrides_json = "[1]";
  EXPECT_FALSE(store.add_problem(broken).has_value());
  EXPECT_EQ(store.problems()->size(), 1u);
}

TEST_F(RunStoreTest, newest_verdict_counts_and_history_stays) {
  RunStore store = open();
  ASSERT_TRUE(store.add_problem(problem("p")));
  ASSERT_TRUE(store.add_problem(problem("q")));
  const int64_t first = *store.add_trace(trace("p", 0));
  const int64_t second = *store.add_trace(trace("p", 1));
  const int64_t third = *store.add_trace(trace("q", 0));
  EXPECT_THAT(*store.unverified_traces("interpret"), ElementsAre(first, second, third));
  ASSERT_TRUE(store.add_verdict(verdict(first, "mismatch", false)));
  ASSERT_TRUE(store.add_verdict(verdict(first, "correct_cpu", true)));
  Verdict timed = verdict(second, "correct", true);
  timed.device = "cuda";
  timed.speedup = 1.5;
  ASSERT_TRUE(store.add_verdict(timed));
  ASSERT_TRUE(store.add_verdict(verdict(third, "not_verified", false)));
  EXPECT_THAT(*store.unverified_traces("interpret"), ElementsAre(second, third));
  EXPECT_THAT(*store.unverified_traces("cuda"), ElementsAre(first, third));
  EXPECT_EQ((*store.newest_verdict(first))->verdict, "correct_cpu");
  EXPECT_EQ((*store.newest_verdict(first))->speedup, std::nullopt);
  EXPECT_EQ((*store.newest_verdict(second))->speedup, 1.5);
  const auto summary = store.summary();
  ASSERT_TRUE(summary.has_value()) << summary.error().to_string();
  EXPECT_EQ(summary->num_problems, 2);
  EXPECT_EQ(summary->num_traces, 3);
  EXPECT_EQ(summary->num_verified, 3);
  EXPECT_EQ(summary->num_correct, 2);
  EXPECT_EQ(summary->num_problems_solved, 1);
  EXPECT_EQ(summary->num_completion_tokens, 9);
  const auto counts = store.verdict_counts();
  ASSERT_TRUE(counts.has_value()) << counts.error().to_string();
  EXPECT_EQ(counts->num_verified, 3);
  EXPECT_EQ(counts->num_correct, 2);
  EXPECT_THAT(summary->verdicts,
              ElementsAre(Pair("correct", 1), Pair("correct_cpu", 1), Pair("not_verified", 1)));
  EXPECT_FALSE(store.add_verdict(verdict(third + 7, "mismatch", false)).has_value());
}

TEST_F(RunStoreTest, visits_traces_in_order_with_their_newest_verdict) {
  RunStore store = open();
  ASSERT_TRUE(store.add_problem(problem("a")));
  ASSERT_TRUE(store.add_problem(problem("b")));
  ASSERT_TRUE(store.add_trace(trace("b", 0)));
  const int64_t last_added = *store.add_trace(trace("a", 1));
  ASSERT_TRUE(store.add_trace(trace("a", 0)));
  ASSERT_TRUE(store.add_verdict(verdict(last_added, "mismatch", false)));
  ASSERT_TRUE(store.add_verdict(verdict(last_added, "timeout", false)));
  std::vector<std::string> seen;
  ASSERT_TRUE(store.for_each_trace([&](JudgedTrace&& judged) {
    seen.push_back(judged.trace.problem_id + std::to_string(judged.trace.sample_idx) +
                   (judged.verdict ? judged.verdict->verdict : ""));
    return true;
  }));
  EXPECT_THAT(seen, ElementsAre("a0", "a1timeout", "b0"));
}

TEST_F(RunStoreTest, second_writer_of_a_kind_is_told_who_holds_the_run) {
  const RunStore tracer = open(Access::kTrace);
  const auto second = RunStore::open(run_dir(), Access::kTrace);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(second.error().message, HasSubstr("process " + std::to_string(getpid())));
  const RunStore verifier = open(Access::kVerify);
  const RunStore reader = open(Access::kRead);
}

TEST_F(RunStoreTest, tracer_and_verifier_write_side_by_side) {
  RunStore tracer = open(Access::kTrace);
  RunStore verifier = open(Access::kVerify);
  ASSERT_TRUE(tracer.add_problem(problem("p")));
  constexpr int kNumTraces = 40;
  std::thread writer([&] {
    for (int i = 0; i < kNumTraces; ++i) ASSERT_TRUE(tracer.add_trace(trace("p", i)));
  });
  int num_verdicts = 0;
  while (num_verdicts < kNumTraces) {
    const auto ids = verifier.unverified_traces("interpret");
    ASSERT_TRUE(ids.has_value()) << ids.error().to_string();
    for (const int64_t id : *ids) {
      ASSERT_TRUE(verifier.add_verdict(verdict(id, "mismatch", false)));
      ++num_verdicts;
    }
  }
  writer.join();
  EXPECT_EQ(tracer.summary()->num_verified, kNumTraces);
}

TEST_F(RunStoreTest, reader_needs_a_run) {
  const auto store = RunStore::open(run_dir(), Access::kRead);
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code, ErrorCode::kNotFound);
}

TEST_F(RunStoreTest, refuses_a_database_of_a_newer_schema) {
  { const RunStore created = open(); }
  {
    auto database = Database::open(run_dir() + "/run.sqlite", false);
    ASSERT_TRUE(database.has_value());
    ASSERT_TRUE(database->execute("PRAGMA user_version = 1000"));
  }
  for (const Access access : {Access::kRead, Access::kTrace}) {
    const auto store = RunStore::open(run_dir(), access);
    ASSERT_FALSE(store.has_value());
    EXPECT_EQ(store.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(store.error().to_string(), HasSubstr("version 1000"));
  }
}

TEST_F(RunStoreTest, refuses_a_file_that_is_no_database) {
  std::filesystem::create_directories(run_dir());
  const int fd = ::open((run_dir() + "/run.sqlite").c_str(), O_WRONLY | O_CREAT, 0600);
  const std::string text(5000, 'x');
  ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  close(fd);
  const auto store = RunStore::open(run_dir(), Access::kTrace);
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code, ErrorCode::kInvalidData);
}

// A child adds traces and reports each acknowledged one through a pipe until it is killed; every one that it
// reported must be there, whole, and the run must open for writing at once.
TEST_F(RunStoreTest, killed_writer_loses_nothing_it_had_stored) {
  { ASSERT_TRUE(open().add_problem(problem("p"))); }
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto store = RunStore::open(run_dir(), Access::kTrace);
    for (int64_t i = 0; store.has_value(); ++i) {
      if (!store->add_trace(trace("p", i))) break;
      if (write(pipe_fds[1], &i, sizeof(i)) != sizeof(i)) break;
    }
    _exit(1);
  }
  close(pipe_fds[1]);
  int64_t last_reported = -1;
  for (int i = 0; i < 25; ++i) ASSERT_EQ(read(pipe_fds[0], &last_reported, sizeof(last_reported)), 8);
  ASSERT_EQ(kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  while (read(pipe_fds[0], &last_reported, sizeof(last_reported)) == sizeof(last_reported)) {
  }
  close(pipe_fds[0]);
  RunStore store = open();
  int64_t num_traces = 0;
  ASSERT_TRUE(store.for_each_trace([&](JudgedTrace&& judged) {
    EXPECT_EQ(judged.trace.sample_idx, num_traces);
    EXPECT_EQ(judged.trace.completion_logprobs.size(), 3u);
    ++num_traces;
    return true;
  }));
  EXPECT_GT(num_traces, last_reported);
  EXPECT_LE(num_traces, last_reported + 2);
}

}  // namespace
}  // namespace nemoforge::store
