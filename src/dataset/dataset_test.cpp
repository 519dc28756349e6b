#include "dataset/dataset.h"

#include <filesystem>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/sha256.h"
#include "base/temporary_folder.h"
#include "io/file.h"
#include "io/json.h"
#include "store/problem_split.h"
#include "store/run_store.h"

namespace nemoforge::dataset {
namespace {

using io::Json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// A problem of its own structure for each name.
std::string source_of(const std::string& name) {
  return "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return torch." +
         name +
         "(x) - 1.5\ndef get_inputs():\n    return [torch.randn(8)]\ndef get_init_inputs():\n    return []\n";
}

std::string long_text(const std::string& word, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += word + std::to_string(i) + " ";
  return text;
}

class DatasetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.run_dirs = {dir_ + "/run"};
    config_.out = dir_ + "/sft.jsonl";
    config_.nemoforge_version = "0.1.0";
  }

  struct Sample {
    std::string problem;
    int64_t sample_idx = 0;
    std::string verdict = "correct_cpu";  // empty: not verified
    std::string code = {};                // empty: one of its own
    std::string reasoning = {};           // likewise
    std::optional<double> speedup = {};
    std::string finish_reason = "stop";
    int64_t num_completion_tokens = 100;
    int64_t attempt_idx = 0;
    std::string source = {};  // of the problem; empty: source_of(problem)
  };
  static store::Trace trace_of(const Sample& sample) {
    const std::string name = sample.problem + std::to_string(sample.sample_idx);
    store::Trace trace;
    trace.problem_id = sample.problem;
    trace.sample_idx = sample.sample_idx;
    trace.attempt_idx = sample.attempt_idx;
    trace.messages_json = R"([{"role":"user","content":"solve )" + sample.problem + R"("}])";
    trace.code = sample.code.empty() ? long_text("code_" + name, 20) : sample.code;
    trace.answer = "```python\n" + trace.code + "\n```";
    trace.reasoning = sample.reasoning.empty() ? long_text("thought_" + name, 20) : sample.reasoning;
    trace.num_prompt_tokens = 10;
    trace.num_completion_tokens = sample.num_completion_tokens;
    trace.num_reasoning_tokens = sample.num_completion_tokens / 2;
    trace.finish_reason = sample.finish_reason;
    trace.sampling_json = R"({"temperature":1.0})";
    trace.model = "demo";
    return trace;
  }
  void make_run(const std::vector<Sample>& samples, const std::string& name = "run") const {
    const std::string run_dir = dir_ + "/" + name;
    auto tracer = store::RunStore::open(run_dir, store::Access::kTrace);
    auto verifier = store::RunStore::open(run_dir, store::Access::kVerify);
    ASSERT_TRUE(tracer.has_value() && verifier.has_value());
    for (const Sample& sample : samples) {
      const std::string source = sample.source.empty() ? source_of(sample.problem) : sample.source;
      ASSERT_TRUE(tracer->add_problem({sample.problem, source, "set", ""}));
      const auto id = tracer->add_trace(trace_of(sample));
      ASSERT_TRUE(id.has_value()) << id.error().to_string();
      if (sample.verdict.empty()) continue;
      store::Verdict verdict;
      verdict.trace_id = *id;
      verdict.verdict = sample.verdict;
      verdict.correct = sample.verdict.starts_with("correct");
      verdict.speedup = sample.speedup;
      verdict.device = "interpret";
      ASSERT_TRUE(verifier->add_verdict(verdict));
    }
  }
  static std::vector<Json> rows_of(const std::string& path) {
    std::vector<Json> rows;
    const auto text = io::read_file(path);
    EXPECT_TRUE(text.has_value()) << text.error().to_string();
    std::istringstream lines(text.value_or(""));
    for (std::string line; std::getline(lines, line);) rows.push_back(*io::parse_json(line));
    return rows;
  }
  // "problem/sample" of every row of the dataset.
  [[nodiscard]] std::vector<std::string> build() const {
    const auto report = build_dataset(config_);
    EXPECT_TRUE(report.has_value()) << report.error().to_string();
    std::vector<std::string> names;
    for (const Json& row : rows_of(config_.out)) {
      names.push_back(row["problem_id"].get<std::string>() + "/" + row["sample_idx"].dump());
    }
    return names;
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
  DatasetConfig config_;
};

TEST_F(DatasetTest, rows_are_chats_of_verified_traces_only) {
  make_run({{.problem = "relu", .sample_idx = 0, .speedup = 1.5},
            {.problem = "relu", .sample_idx = 1, .verdict = "mismatch"},
            {.problem = "relu", .sample_idx = 2, .verdict = "cheating:decoy_kernel"},
            {.problem = "relu", .sample_idx = 3, .verdict = ""},
            {.problem = "relu", .sample_idx = 4, .verdict = "not_verified"},
            {.problem = "relu", .sample_idx = 5, .finish_reason = "length"},
            {.problem = "gelu", .sample_idx = 0, .verdict = "correct"}});
  EXPECT_THAT(build(), ElementsAre("gelu/0", "relu/0"));
  const Json row = rows_of(config_.out)[1];
  ASSERT_THAT(row["messages"], SizeIs(2));
  EXPECT_EQ(row["messages"][0], (Json{{"role", "user"}, {"content", "solve relu"}}));
  EXPECT_EQ(row["messages"][1]["role"], "assistant");
  EXPECT_EQ(row["messages"][1]["reasoning_content"], long_text("thought_relu0", 20));
  EXPECT_EQ(row["messages"][1]["content"], "```python\n" + long_text("code_relu0", 20) + "\n```");
  EXPECT_EQ(row["speedup"], 1.5);
  EXPECT_EQ(row["num_tokens"], 110);
  const auto report = build_dataset(config_);
  EXPECT_EQ(report->num_traces, 7);
  EXPECT_EQ(report->num_dropped.at(DropReason::kFailed), 2);
  EXPECT_EQ(report->num_dropped.at(DropReason::kNotVerified), 2);
  EXPECT_EQ(report->num_dropped.at(DropReason::kFinishReason), 1);
  EXPECT_EQ(report->num_tokens, 220);
}

TEST_F(DatasetTest, accepts_the_verdicts_it_is_told) {
  make_run({{.problem = "relu", .verdict = "correct_cpu"}, {.problem = "gelu", .verdict = "correct"}});
  config_.accepted_verdicts = {"correct"};
  EXPECT_THAT(build(), ElementsAre("gelu/0"));
}

TEST_F(DatasetTest, filters_by_speedup_reasoning_and_tokens) {
  make_run({{.problem = "a", .sample_idx = 0, .speedup = 0.9},
            {.problem = "a", .sample_idx = 1, .speedup = 1.1},
            {.problem = "a", .sample_idx = 2},
            {.problem = "a", .sample_idx = 3, .speedup = 3, .num_completion_tokens = 10},
            {.problem = "a", .sample_idx = 4, .speedup = 3, .num_completion_tokens = 1000}});
  config_.min_speedup = 1.0;
  EXPECT_THAT(build(), ElementsAre("a/1", "a/3", "a/4"));
  config_.min_reasoning_tokens = 6;
  config_.max_reasoning_tokens = 499;
  EXPECT_THAT(build(), ElementsAre("a/1"));
  config_.min_reasoning_tokens = 0;
  config_.max_reasoning_tokens = std::nullopt;
  config_.max_tokens = 110;
  EXPECT_THAT(build(), ElementsAre("a/1", "a/3"));
  config_.count_tokens = [](const std::string& messages) -> Result<int64_t> {
    return messages.find("thought_a4") != std::string::npos ? 5 : 500;
  };
  EXPECT_THAT(build(), ElementsAre("a/4"));
  EXPECT_EQ(rows_of(config_.out)[0]["num_tokens"], 5);
}

TEST_F(DatasetTest, of_duplicates_the_best_stays) {
  const std::string code = long_text("op", 200);
  const std::string reasoning = long_text("because", 200);
  make_run(
      {{.problem = "a", .sample_idx = 0, .code = code, .reasoning = reasoning},
       {.problem = "a", .sample_idx = 1, .code = code + "# a comment", .reasoning = reasoning, .speedup = 2},
       {.problem = "a", .sample_idx = 2, .code = code + "more", .reasoning = reasoning + "more"},
       {.problem = "b", .sample_idx = 0, .code = code, .reasoning = long_text("otherwise", 200)}});
  EXPECT_THAT(build(), ElementsAre("a/1", "b/0"));
  const auto report = build_dataset(config_);
  EXPECT_EQ(report->num_dropped.at(DropReason::kExactDuplicate), 1);
  EXPECT_EQ(report->num_dropped.at(DropReason::kNearDuplicate), 1);
  config_.near_duplicate_similarity = 1.1;
  EXPECT_THAT(build(), ElementsAre("a/1", "a/2", "b/0"));
}

TEST_F(DatasetTest, best_of_takes_the_fastest_and_then_what_differs) {
  const std::string shared = long_text("shared", 100);
  make_run(
      {{.problem = "a", .sample_idx = 0, .code = shared + long_text("x", 20), .speedup = 3},
       {.problem = "a", .sample_idx = 1, .code = shared + long_text("y", 20), .reasoning = "r", .speedup = 1},
       {.problem = "a", .sample_idx = 2, .code = long_text("z", 100), .speedup = 2},
       {.problem = "b", .sample_idx = 0}});
  config_.best_of = 1;
  EXPECT_THAT(build(), ElementsAre("a/0", "b/0"));
  config_.best_of = 2;
  EXPECT_THAT(build(), ElementsAre("a/0", "a/2", "b/0"));
  EXPECT_EQ(build_dataset(config_)->num_dropped.at(DropReason::kBestOf), 1);
}

TEST_F(DatasetTest, held_out_problems_and_their_likes_have_no_rows) {
  make_run({{.problem = "relu"}, {.problem = "gelu"}, {.problem = "tanh"}});
  make_run({{.problem = "gelu", .sample_idx = 7}, {.problem = "silu", .sample_idx = 7}}, "other");
  ASSERT_TRUE(store::record_problem_splits(
      dir_ + "/other", {{"gelu", store::Split::kHeldOut}, {"silu", store::Split::kTrain}}));
  config_.run_dirs.push_back(dir_ + "/other");
  // Another name, other sizes, the same operations.
  std::string like_tanh = source_of("tanh");
  like_tanh.replace(like_tanh.find("1.5"), 3, "2.5");
  config_.held_out = {{"test_set_1", like_tanh}};
  EXPECT_THAT(build(), ElementsAre("relu/0", "silu/7"));
  const auto report = build_dataset(config_);
  EXPECT_EQ(report->num_dropped.at(DropReason::kHeldOut), 2);
  EXPECT_EQ(report->num_dropped.at(DropReason::kContaminated), 1);
  const auto manifest = io::read_json_file(dir_ + "/sft.manifest.json");
  ASSERT_TRUE(manifest.has_value());
  for (const Json& problem : (*manifest)["problems"]) {
    EXPECT_EQ(problem["held_out"], problem["id"] == "gelu");
    EXPECT_EQ(problem["contaminated"], problem["id"] == "tanh");
  }
}

// A problem that one run holds out comes back in another: renamed, under other sizes, annotated and
// reformatted.
TEST_F(DatasetTest, a_held_out_problem_in_disguise_has_no_rows) {
  make_run({{.problem = "gelu"}, {.problem = "relu"}}, "first");
  ASSERT_TRUE(store::record_problem_splits(
      dir_ + "/first", {{"gelu", store::Split::kHeldOut}, {"relu", store::Split::kTrain}}));
  const std::string disguised =
      "# Not seen before.\nimport torch as th\n\n\nclass Model(th.nn.Module):\n    def forward(this, value: "
      "th.Tensor) -> th.Tensor:\n        return th.gelu(\n            value,\n        ) - 7\n\n\ndef "
      "get_inputs():\n"
      "    return [th.randn(4096)]\n\n\ndef get_init_inputs():\n    return []\n";
  make_run({{.problem = "fresh", .source = disguised}, {.problem = "tanh"}}, "second");
  config_.run_dirs = {dir_ + "/second", dir_ + "/first"};
  EXPECT_THAT(build(), ElementsAre("relu/0", "tanh/0"));
  const auto report = build_dataset(config_);
  EXPECT_EQ(report->num_dropped.at(DropReason::kHeldOut), 1);
  EXPECT_EQ(report->num_dropped.at(DropReason::kContaminated), 1);
  // The rows of the second run alone, with the first one's side of the split named.
  config_.run_dirs = {dir_ + "/second"};
  config_.held_out = {{"gelu", source_of("gelu")}};
  EXPECT_THAT(build(), ElementsAre("tanh/0"));
}

TEST_F(DatasetTest, validation_rows_are_of_problems_of_their_own) {
  std::vector<Sample> samples;
  for (int problem = 0; problem < 40; ++problem) {
    for (int sample = 0; sample < 2; ++sample) {
      samples.push_back({.problem = "op" + std::to_string(problem), .sample_idx = sample});
    }
  }
  make_run(samples);
  config_.validation_fraction = 0.25;
  const auto report = build_dataset(config_);
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  std::set<std::string> problems;
  for (const Json& row : rows_of(config_.out)) problems.insert(row["problem_id"].get<std::string>());
  const std::vector<Json> validation = rows_of(dir_ + "/sft.validation.jsonl");
  EXPECT_EQ(static_cast<int64_t>(validation.size()), report->num_validation_rows);
  EXPECT_GT(validation.size(), 4u);
  EXPECT_LT(validation.size(), 40u);
  for (const Json& row : validation) EXPECT_FALSE(problems.contains(row["problem_id"].get<std::string>()));
  config_.validation_fraction = 0;
  ASSERT_TRUE(build_dataset(config_).has_value());
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/sft.validation.jsonl"));
}

TEST_F(DatasetTest, the_same_inputs_give_the_same_bytes) {
  make_run({{.problem = "relu", .sample_idx = 1}, {.problem = "gelu"}, {.problem = "relu", .sample_idx = 0}});
  std::map<std::string, std::string> first;
  for (int repeat = 0; repeat < 2; ++repeat) {
    const auto report = build_dataset(config_);
    ASSERT_TRUE(report.has_value());
    for (const std::string& path : report->files) {
      const auto text = io::read_file(path);
      ASSERT_TRUE(text.has_value());
      EXPECT_EQ(first.emplace(path, *text).first->second, *text) << path;
      std::filesystem::remove(path);
    }
  }
  ASSERT_THAT(first, SizeIs(3));
  const auto manifest = io::parse_json(first.at(dir_ + "/sft.manifest.json"));
  ASSERT_TRUE(manifest.has_value());
  EXPECT_EQ((*manifest)["files"][0]["sha256"], sha256_hex(first.at(config_.out)));
  EXPECT_THAT((*manifest)["rows"], SizeIs(3));
  EXPECT_THAT(first.at(dir_ + "/sft.README.md"),
              AllOf(HasSubstr("path: sft.jsonl"), HasSubstr(sha256_hex(first.at(config_.out))),
                    HasSubstr("| **rows** | **3** |")));
}

TEST_F(DatasetTest, the_card_names_the_licences) {
  make_run({{.problem = "relu"}});
  EXPECT_THAT(build(), SizeIs(1));
  EXPECT_THAT(*io::read_file(dir_ + "/sft.README.md"),
              HasSubstr("Rows: not said.\n\nThe licence of the rows follows"));
  config_.licence = "apache-2.0";
  config_.source_licences = {"KernelBench problems: MIT", "model: NVIDIA Open Model License"};
  EXPECT_THAT(build(), SizeIs(1));
  EXPECT_THAT(*io::read_file(dir_ + "/sft.README.md"),
              AllOf(HasSubstr("---\nlicense: apache-2.0\ntask_categories:"),
                    HasSubstr("Rows: apache-2.0.\n\n- KernelBench problems: MIT\n- model: NVIDIA")));
}

TEST_F(DatasetTest, nothing_to_write_is_an_error_that_says_why) {
  make_run({{.problem = "relu", .verdict = "mismatch"}, {.problem = "gelu", .verdict = ""}});
  const auto report = build_dataset(config_);
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(report.error().to_string(),
              AllOf(HasSubstr("none of 2 traces"), HasSubstr("1 not verified, 1 verification failed"),
                    HasSubstr("nemoforge verify")));
  EXPECT_FALSE(std::filesystem::exists(config_.out));
  config_.run_dirs = {dir_ + "/absent"};
  EXPECT_EQ(build_dataset(config_).error().code, ErrorCode::kNotFound);
  config_.out = dir_ + "/sft.json";
  EXPECT_EQ(build_dataset(config_).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(DatasetTest, runs_that_disagree_about_a_problem_are_refused) {
  make_run({{.problem = "relu"}});
  {
    auto other = store::RunStore::open(dir_ + "/other", store::Access::kTrace);
    ASSERT_TRUE(other->add_problem({"relu", source_of("gelu"), "set", ""}));
  }
  config_.run_dirs.push_back(dir_ + "/other");
  const auto report = build_dataset(config_);
  ASSERT_FALSE(report.has_value());
  EXPECT_THAT(report.error().message, HasSubstr("under the id relu"));
}

TEST_F(DatasetTest, kernelbook_rows_have_the_public_sets_columns) {
  make_run({{.problem = "relu", .sample_idx = 0, .verdict = "mismatch"},
            {.problem = "relu", .sample_idx = 0, .speedup = 2.5, .attempt_idx = 1}});
  config_.format = RowFormat::kKernelBook;
  ASSERT_TRUE(build_dataset(config_).has_value());
  const std::vector<Json> rows = rows_of(config_.out);
  ASSERT_THAT(rows, SizeIs(1));
  std::vector<std::string> columns;
  for (const auto& [column, value] : rows[0].items()) columns.push_back(column);
  EXPECT_THAT(columns, ElementsAre("sample_key", "source", "pytorch_code", "num_turns", "stop_reason",
                                   "final_triton_code", "final_result", "turns", "full_messages"));
  EXPECT_EQ(rows[0]["pytorch_code"], source_of("relu"));
  EXPECT_EQ(rows[0]["num_turns"], 2);
  EXPECT_EQ(rows[0]["final_result"]["correctness"], true);
  EXPECT_EQ(rows[0]["final_result"]["fast_2"], true);
  EXPECT_EQ(rows[0]["final_result"]["speedup"], 2.5);
  const auto turns = io::parse_json(rows[0]["turns"].get<std::string>());
  ASSERT_THAT(*turns, SizeIs(2));
  EXPECT_EQ((*turns)[0]["turn"], 1);
  EXPECT_EQ((*turns)[0]["result"]["error"], "mismatch");
  EXPECT_EQ((*turns)[1]["result"]["error"], nullptr);
  const auto messages = io::parse_json(rows[0]["full_messages"].get<std::string>());
  EXPECT_FALSE(messages->back().contains("reasoning_content"));
}

TEST_F(DatasetTest, a_manifest_rebuilds_its_files_byte_for_byte) {
  std::vector<Sample> samples;
  for (const char* problem : {"relu", "gelu", "tanh", "exp", "log", "sqrt"}) {
    samples.push_back({.problem = problem, .sample_idx = 0, .verdict = "mismatch"});
    samples.push_back({.problem = problem, .sample_idx = 0, .speedup = 1.25, .attempt_idx = 1});
    samples.push_back({.problem = problem, .sample_idx = 1});
  }
  make_run(samples);
  config_.validation_fraction = 0.5;
  config_.count_tokens = [](const std::string& messages) { return Result<int64_t>(messages.size()); };
  for (const RowFormat format : {RowFormat::kChat, RowFormat::kKernelBook}) {
    config_.format = format;
    const auto built = build_dataset(config_);
    ASSERT_TRUE(built.has_value()) << built.error().to_string();
    ASSERT_GT(built->num_validation_rows, 0);
    const auto rebuilt = rebuild_dataset(dir_ + "/sft.manifest.json", dir_ + "/again.jsonl");
    ASSERT_TRUE(rebuilt.has_value()) << rebuilt.error().to_string();
    EXPECT_EQ(rebuilt->num_rows, built->num_rows);
    EXPECT_EQ(rebuilt->num_tokens, built->num_tokens);
    EXPECT_EQ(*io::read_file(dir_ + "/again.jsonl"), *io::read_file(dir_ + "/sft.jsonl"));
    EXPECT_EQ(*io::read_file(dir_ + "/again.validation.jsonl"),
              *io::read_file(dir_ + "/sft.validation.jsonl"));
  }
  // The run may be elsewhere by then.
  std::filesystem::rename(dir_ + "/run", dir_ + "/moved");
  EXPECT_FALSE(rebuild_dataset(dir_ + "/sft.manifest.json", dir_ + "/again.jsonl").has_value());
  const auto moved = rebuild_dataset(dir_ + "/sft.manifest.json", dir_ + "/again.jsonl", {dir_ + "/moved"});
  EXPECT_TRUE(moved.has_value()) << moved.error().to_string();
}

TEST_F(DatasetTest, a_rebuild_that_would_differ_writes_nothing) {
  make_run({{.problem = "relu"}});
  ASSERT_TRUE(build_dataset(config_).has_value());
  std::string manifest = *io::read_file(dir_ + "/sft.manifest.json");
  const std::string hash = rows_of(config_.out).empty() ? "" : sha256_hex(*io::read_file(config_.out));
  const size_t at = manifest.find(hash);
  ASSERT_NE(at, std::string::npos);
  manifest[at] = manifest[at] == '0' ? '1' : '0';
  ASSERT_TRUE(io::write_file_atomically(dir_ + "/other.json", manifest));
  const auto other = rebuild_dataset(dir_ + "/other.json", dir_ + "/again.jsonl");
  ASSERT_FALSE(other.has_value());
  EXPECT_THAT(other.error().message, HasSubstr("nothing was written"));
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/again.jsonl"));
  for (const char* text :
       {"{}", "[]", "{\"format\":1}", "{\"format\":2,\"runs\":[1],\"rows\":[{\"run\":-1}]}", "nonsense"}) {
    ASSERT_TRUE(io::write_file_atomically(dir_ + "/other.json", text));
    EXPECT_FALSE(rebuild_dataset(dir_ + "/other.json", dir_ + "/again.jsonl").has_value()) << text;
  }
}

TEST_F(DatasetTest, a_problem_nearly_like_a_held_out_one_has_no_rows) {
  make_run({{.problem = "relu"}, {.problem = "gelu"}});
  // One operator of sixty tokens differs from gelu's.
  std::string held_out = source_of("gelu") + "\n# ";
  for (const char* line : {"x = torch.a(x, 1)", "y = torch.b(x, 2, k=3)", "z = torch.c(y + x)"}) {
    held_out += std::string("\n") + line;
  }
  const auto held_out_with = [&](double similarity) {
    config_.held_out = {{"other", held_out}};
    config_.contamination_similarity = similarity;
    const auto report = build_dataset(config_);
    return report ? report->num_rows : 0;
  };
  EXPECT_EQ(held_out_with(1.1), 2);
  EXPECT_EQ(held_out_with(0.95), 2);
  EXPECT_LT(held_out_with(0.5), 2);
}

TEST_F(DatasetTest, other_scripts_can_be_filtered) {
  make_run({{.problem = "relu", .sample_idx = 0},
            {.problem = "relu", .sample_idx = 1, .reasoning = "Here α is small. 我们需要优化这个内核"}});
  EXPECT_THAT(build(), SizeIs(2));
  config_.max_non_latin_share = 0.01;
  EXPECT_THAT(build(), ElementsAre("relu/0"));
  EXPECT_EQ(build_dataset(config_)->num_dropped.at(DropReason::kLanguage), 1);
}

}  // namespace
}  // namespace nemoforge::dataset
