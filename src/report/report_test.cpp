#include "report/report.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/temporary_folder.h"
#include "io/file.h"
#include "io/json.h"
#include "report/kernelbench.h"
#include "report/plain_text.h"
#include "store/problem_split.h"

namespace nemoforge::report {
namespace {

using io::Json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

// Reports on real runs.
class ReportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tracer = store::RunStore::open(run_dir(), store::Access::kTrace);
    auto verifier = store::RunStore::open(run_dir(), store::Access::kVerify);
    ASSERT_TRUE(tracer.has_value() && verifier.has_value());
    tracer_.emplace(std::move(*tracer));
    verifier_.emplace(std::move(*verifier));
  }
  [[nodiscard]] std::string run_dir() const { return dir_ + "/run"; }

  struct Judged {
    std::string problem;
    int64_t sample_idx = 0;
    std::string verdict;  // empty: none
    std::optional<double> speedup = {};
    int64_t attempt_idx = 0;
    int64_t num_tokens = 100;
    std::string model = "demo";
    std::string record = "{}";
  };
  void add(const Judged& judged) {
    ASSERT_TRUE(tracer_->add_problem({judged.problem, "# " + judged.problem, "set", ""}));
    store::Trace trace;
    trace.problem_id = judged.problem;
    trace.sample_idx = judged.sample_idx;
    trace.attempt_idx = judged.attempt_idx;
    trace.code = "attempt = " + std::to_string(judged.attempt_idx) + "\n";
    trace.num_completion_tokens = judged.num_tokens;
    trace.model = judged.model;
    const auto id = tracer_->add_trace(trace);
    ASSERT_TRUE(id.has_value()) << id.error().to_string();
    if (judged.verdict.empty()) return;
    store::Verdict verdict;
    verdict.trace_id = *id;
    verdict.verdict = judged.verdict;
    verdict.correct = judged.verdict.starts_with("correct");
    verdict.speedup = judged.speedup;
    verdict.device = "cuda";
    verdict.record_json = judged.record;
    ASSERT_TRUE(verifier_->add_verdict(verdict));
  }
  [[nodiscard]] RunReport report(const std::vector<int64_t>& ks = {}) const {
    auto report = report_run(*tracer_, run_dir(), ks);
    EXPECT_TRUE(report.has_value()) << report.error().to_string();
    return std::move(*report);
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
  std::optional<store::RunStore> tracer_;
  std::optional<store::RunStore> verifier_;
};

TEST_F(ReportTest, counts_samples_by_level_and_averages_over_problems) {
  add({.problem = "level1_1_a", .sample_idx = 0, .verdict = "correct", .speedup = 3.0});
  add({.problem = "level1_1_a", .sample_idx = 1, .verdict = "mismatch"});
  add({.problem = "level1_2_b", .sample_idx = 0, .verdict = "timeout"});
  add({.problem = "level1_2_b", .sample_idx = 1, .verdict = "mismatch"});
  add({.problem = "level2_1_c", .sample_idx = 0, .verdict = "correct", .speedup = 1.0});
  add({.problem = "level2_1_c", .sample_idx = 1, .verdict = "correct", .speedup = 1.4});
  const RunReport run = report();
  ASSERT_THAT(run.groups, SizeIs(3));
  const Group& all = run.groups[0];
  EXPECT_EQ(all.name, "all");
  EXPECT_EQ(all.num_problems, 3);
  EXPECT_EQ(all.num_samples, 6);
  EXPECT_EQ(all.num_correct, 3);
  EXPECT_EQ(all.num_solved, 2);
  ASSERT_THAT(all.pass_at_k, SizeIs(2));
  EXPECT_DOUBLE_EQ(all.pass_at_k[0].second.value, 0.5);
  EXPECT_DOUBLE_EQ(all.pass_at_k[1].second.value, 2.0 / 3);
  EXPECT_DOUBLE_EQ(all.fast_p[0].second->value, 0.5);      // correct
  EXPECT_DOUBLE_EQ(all.fast_p[1].second->value, 1.0 / 3);  // above 1, not at it
  EXPECT_DOUBLE_EQ(all.fast_p[4].second->value, 0.5 / 3);  // above 2
  EXPECT_EQ(run.groups[1].name, "level 1");
  EXPECT_DOUBLE_EQ(run.groups[1].pass_at_k[0].second.value, 0.25);
  EXPECT_DOUBLE_EQ(run.groups[2].pass_at_k[0].second.value, 1);
  EXPECT_THAT(run.speedups, ElementsAre(1.0, 1.4, 3.0));
  EXPECT_DOUBLE_EQ(*run.tokens_per_correct_sample, 200);
  EXPECT_THAT(run.verdicts, ElementsAre(Pair("correct", 3), Pair("mismatch", 2), Pair("timeout", 1)));
}

TEST_F(ReportTest, a_sample_is_as_good_as_its_best_attempt) {
  add({.problem = "p", .verdict = "mismatch", .attempt_idx = 0});
  add({.problem = "p", .verdict = "correct", .speedup = 0.5, .attempt_idx = 1});
  add({.problem = "p", .verdict = "correct", .speedup = 1.5, .attempt_idx = 2});
  add({.problem = "p", .sample_idx = 1, .verdict = "mismatch"});
  const RunReport run = report();
  EXPECT_EQ(run.groups[0].num_samples, 2);
  EXPECT_EQ(run.groups[0].num_correct, 1);
  EXPECT_THAT(run.speedups, ElementsAre(1.5));
  ASSERT_THAT(run.attempts, SizeIs(3));
  EXPECT_EQ(run.attempts[0].num_samples_correct, 0);
  EXPECT_EQ(run.attempts[1].num_samples_correct, 1);
  EXPECT_EQ(run.attempts[2].num_samples_correct, 1);
  EXPECT_DOUBLE_EQ(*run.tokens_per_correct_sample, 400);
}

TEST_F(ReportTest, leaves_out_what_says_nothing_about_the_candidate) {
  add({.problem = "good", .verdict = "correct_cpu"});
  add({.problem = "big", .verdict = "needs_gpu"});
  add({.problem = "waiting", .verdict = ""});
  const RunReport run = report();
  EXPECT_EQ(run.groups[0].num_problems, 1);
  EXPECT_EQ(run.num_problems, 3);
  EXPECT_EQ(run.num_verified, 2);
  EXPECT_THAT(run.excluded_problems, ElementsAre("big"));
  EXPECT_FALSE(run.groups[0].fast_p[1].second.has_value()) << "no speedup is known";
  EXPECT_THAT(to_table({run}), HasSubstr("no speedup was measured"));
}

TEST_F(ReportTest, tells_train_and_held_out_apart) {
  add({.problem = "seen", .verdict = "correct"});
  add({.problem = "unseen", .verdict = "mismatch"});
  ASSERT_TRUE(store::record_problem_splits(
      run_dir(), {{"seen", store::Split::kTrain}, {"unseen", store::Split::kHeldOut}}));
  const RunReport run = report();
  ASSERT_THAT(run.groups, SizeIs(3));
  EXPECT_EQ(run.groups[1].name, "train");
  EXPECT_EQ(run.groups[1].num_correct, 1);
  EXPECT_EQ(run.groups[2].name, "held out");
  EXPECT_EQ(run.groups[2].num_correct, 0);
}

TEST_F(ReportTest, an_empty_run_has_a_report_in_every_form) {
  const RunReport run = report();
  EXPECT_THAT(to_table({run}), HasSubstr("0 traces"));
  EXPECT_THAT(to_html({run}), HasSubstr("</html>"));
  EXPECT_TRUE(io::parse_json(to_json({run})).has_value());
}

TEST_F(ReportTest, the_page_says_what_is_missing) {
  EXPECT_THAT(to_html({report()}), HasSubstr("nemoforge trace"));
  add({.problem = "p", .verdict = ""});
  const std::string unverified = to_html({report()});
  EXPECT_THAT(unverified, HasSubstr("nemoforge verify"));
  EXPECT_THAT(unverified, Not(HasSubstr("pass@k")));
  add({.problem = "p", .sample_idx = 1, .verdict = "correct_cpu"});
  EXPECT_THAT(to_html({report()}), HasSubstr("No speedup was measured"));
}

TEST_F(ReportTest, the_page_has_pass_at_k_by_level_and_a_legend) {
  for (int64_t sample_idx = 0; sample_idx < 2; ++sample_idx) {
    add({.problem = "level1_1_a", .sample_idx = sample_idx, .verdict = "correct", .num_tokens = 5000});
    add({.problem = "level2_1_b", .sample_idx = sample_idx, .verdict = "mismatch"});
  }
  const std::string html = to_html({report()});
  EXPECT_THAT(html, HasSubstr("<th>pass@1</th><th>pass@2</th>"));
  EXPECT_THAT(html, HasSubstr("<td>level 1</td><td>1</td><td>2</td><td>2</td><td>0</td><td>1</td><td><span "
                              "title=\"100.0% "));
  EXPECT_THAT(html, HasSubstr("/run</text>\n</svg>")) << "the run's name in the legend";
  EXPECT_THAT(html, HasSubstr("4096 to 8192")) << "numbers without exponents";
}

TEST_F(ReportTest, json_holds_what_the_table_shows) {
  add({.problem = "level1_1_a", .verdict = "correct", .speedup = 2.5});
  const auto json = io::parse_json(to_json({report({1, 10})}));
  ASSERT_TRUE(json.has_value());
  const Json& all = (*json)["runs"][0]["groups"][0];
  EXPECT_EQ(all["pass_at_k"]["1"]["value"], 1.0);
  EXPECT_FALSE(all["pass_at_k"].contains("10")) << "no problem has ten samples";
  EXPECT_EQ(all["fast_p"]["2.0"]["value"], 1.0);
  EXPECT_EQ((*json)["runs"][0]["speedup"]["median"], 2.5);
}

TEST_F(ReportTest, hostile_names_stay_text) {
  add({.problem = "<script>alert(1)</script>",
       .verdict = "cheating:\"><img src=x onerror=alert(1)>",
       .model = "\x1b[2J\xff' onload='x"});
  add({.problem = "<script>alert(1)</script>", .sample_idx = 1, .verdict = "needs_gpu"});
  add({.problem = "<b>", .verdict = "needs_gpu"});
  const RunReport run = report();
  const std::string html = to_html({run});
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_THAT(html, Not(HasSubstr("<b>")));
  EXPECT_THAT(html, Not(HasSubstr("' onload='")));
  EXPECT_THAT(html, HasSubstr("&lt;b&gt;"));
  EXPECT_THAT(to_table({run}), Not(HasSubstr("\x1b")));
  EXPECT_TRUE(io::parse_json(to_json({run})).has_value());
}

TEST(PlainText, is_one_line_of_limited_length) {
  EXPECT_EQ(plain_text("a\nb\tc\x7f\xc2\x85\xe2\x80\xae"), "a�b�c���");
  EXPECT_EQ(plain_text("äöü", 2), "äö…");
  EXPECT_EQ(html_text("<&>\"'"), "&lt;&amp;&gt;&quot;&#39;");
}

TEST(ProblemPlace, is_read_from_kernelbenchs_ids) {
  EXPECT_EQ(place_of("level1_19_ReLU").level, 1);
  EXPECT_EQ(place_of("level1_19_ReLU").number, 19);
  EXPECT_EQ(place_of("level2_x").number, 0);
  for (const char* other :
       {"", "level", "level_1", "level-1_2", "levels1_2", "relu", "level99999999999999999999_1"}) {
    EXPECT_EQ(place_of(other).level, 0) << other;
  }
}

TEST_F(ReportTest, kernelbench_layout_has_one_result_a_sample) {
  add({.problem = "level1_19_ReLU", .verdict = "mismatch", .record = R"({"detail":"differs by 3"})"});
  add({.problem = "level1_19_ReLU",
       .verdict = "correct",
       .speedup = 2.0,
       .attempt_idx = 1,
       .record = R"({"kernel_ms":0.25})"});
  add({.problem = "level1_19_ReLU", .sample_idx = 1, .verdict = "compile_error"});
  add({.problem = "level1_19_ReLU", .sample_idx = 2, .verdict = ""});
  add({.problem = "level2_4_x", .verdict = "correct_cpu"});
  add({.problem = "mine", .verdict = "correct"});
  const auto folders = write_kernelbench(*tracer_, dir_ + "/kb");
  ASSERT_TRUE(folders.has_value()) << folders.error().to_string();
  ASSERT_THAT(*folders, SizeIs(2));
  EXPECT_EQ((*folders)[0].num_samples, 3);
  const auto results = io::read_json_file(dir_ + "/kb/level1/eval_results.json");
  ASSERT_TRUE(results.has_value()) << results.error().to_string();
  const Json& samples = (*results)["19"];
  ASSERT_THAT(samples, SizeIs(2));
  EXPECT_EQ(samples[0]["sample_id"], 0);
  EXPECT_EQ(samples[0]["correctness"], true);
  EXPECT_EQ(samples[0]["runtime"], 0.25);
  EXPECT_EQ(samples[1]["compiled"], false);
  EXPECT_EQ(samples[1]["runtime"], -1.0);
  EXPECT_EQ(*io::read_file(dir_ + "/kb/level1/level_1_problem_19_sample_0_kernel.py"), "attempt = 1\n");
  EXPECT_TRUE(std::filesystem::exists(dir_ + "/kb/level1/level_1_problem_19_sample_2_kernel.py"));
  EXPECT_EQ((*io::read_json_file(dir_ + "/kb/level2/eval_results.json"))["4"][0]["compiled"], true);
}

TEST_F(ReportTest, kernelbench_baselines_are_the_times_beside_the_samples) {
  const auto timed = [](const char* kernel_ms, const char* reference_ms) {
    return std::string(R"({"kernel_ms":)") + kernel_ms + R"(,"reference_ms":)" + reference_ms + "}";
  };
  add({.problem = "level1_1_a", .sample_idx = 0, .verdict = "correct", .record = timed("1.0", "2.0")});
  add({.problem = "level1_1_a", .sample_idx = 1, .verdict = "correct", .record = timed("1.0", "3.0")});
  add({.problem = "level1_2_b", .sample_idx = 0, .verdict = "mismatch"});
  add({.problem = "level1_2_b", .sample_idx = 1, .verdict = "correct", .record = timed("1.0", "4.0")});
  add({.problem = "level1_3_c", .verdict = "mismatch"});
  add({.problem = "level1_4_d", .verdict = "correct_cpu"});
  add({.problem = "level1_5_e", .verdict = "needs_gpu"});
  add({.problem = "level2_1_f", .verdict = "correct_cpu"});
  ASSERT_TRUE(write_kernelbench(*tracer_, dir_ + "/kb").has_value());
  const auto baseline = io::read_json_file(dir_ + "/kb/baseline.json");
  ASSERT_TRUE(baseline.has_value()) << baseline.error().to_string();
  // A problem that was solved without a time cannot be compared; one that was not solved counts all the same.
  const auto expected =
      io::parse_json(R"({"level1":{"1_a.py":{"mean":2.0},"2_b.py":{"mean":4.0},"3_c.py":{"mean":null}}})");
  EXPECT_EQ(*baseline, *expected);
}

TEST_F(ReportTest, kernelbench_layout_needs_kernelbenchs_ids) {
  add({.problem = "mine", .verdict = "correct"});
  const auto none = write_kernelbench(*tracer_, dir_ + "/kb");
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, ErrorCode::kNotFound);
  add({.problem = "level1_1_a", .verdict = "correct"});
  add({.problem = "level1_1_b", .verdict = "correct"});
  const auto twice = write_kernelbench(*tracer_, dir_ + "/kb");
  ASSERT_FALSE(twice.has_value());
  EXPECT_THAT(twice.error().message, HasSubstr("level1_1_a and level1_1_b"));
}

}  // namespace
}  // namespace nemoforge::report
