#include "verify/verifier.h"

#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/temporary_folder.h"
#include "io/file.h"

namespace nemoforge::verify {
namespace {

using ::testing::HasSubstr;

std::string corpus_file(const std::string& name) {
  auto text = io::read_file(std::string(NEMOFORGE_SOURCE_DIR) + "/tests/data/verify/" + name);
  EXPECT_TRUE(text.has_value()) << text.error().to_string();
  return *text;
}

Verifier make_verifier() {
  auto verifier =
      Verifier::create({.device = Device::kInterpret, .sandbox = true, .num_workers = 2, .version = "test"});
  EXPECT_TRUE(verifier.has_value()) << verifier.error().to_string();
  return *verifier;
}

// The whole way once, with the real Python, interpreter, compiler and sandbox.
TEST(verifier, judges_the_traces_of_a_run_and_stores_every_verdict) {
  const TemporaryFolder folder = TemporaryFolder::create().value();
  const std::map<std::string, std::string> candidates = {
      {"correct_cpu", corpus_file("honest/h01_add.py")},
      {"cheating:decoy_kernel",
       "import torch\n" + corpus_file("honest/h01_add.py") +
           "\n\nclass ModelNew(ModelNew):\n    def forward(self, a, b):\n        super().forward(a, b)\n"
           "        return a + b\n"},
      {"no_code", ""},
      {"compile_error", "class ModelNew(:\n"}};
  auto store = store::RunStore::open(folder.path(), store::Access::kTrace, {"test", "0", "{}"});
  ASSERT_TRUE(store.has_value()) << store.error().to_string();
  ASSERT_TRUE(store->add_problem(
      {"add", corpus_file("honest/problems/hp01_add.py"), "test", R"({"rows": 9, "cols": 7})"}));
  std::map<int64_t, std::string> expected;
  int64_t sample_idx = 0;
  for (const auto& [verdict, code] : candidates) {
    store::Trace trace;
    trace.problem_id = "add";
    trace.sample_idx = sample_idx++;
    trace.code = code;
    const auto id = store->add_trace(trace);
    ASSERT_TRUE(id.has_value()) << id.error().to_string();
    expected[*id] = verdict;
  }
  int64_t num_seen = 0;
  const Status verified = make_verifier().verify_run(*store, [&](const Backend::Progress& progress) {
    ++num_seen;
    EXPECT_EQ(progress.num_total, 4);
    return true;
  });
  ASSERT_TRUE(verified.has_value()) << verified.error().to_string();
  EXPECT_EQ(num_seen, 4);
  for (const auto& [id, verdict] : expected) {
    const auto stored = store->newest_verdict(id);
    ASSERT_TRUE(stored.has_value() && stored->has_value());
    EXPECT_EQ((*stored)->verdict, verdict) << (*stored)->record_json;
    EXPECT_TRUE((*stored)->sandboxed);
  }
  EXPECT_TRUE(store->unverified_traces("interpret")->empty());
}

TEST(verifier, a_problem_too_large_for_the_interpreter_gets_fewer_rows) {
  const auto verification = make_verifier().verify(corpus_file("honest/problems/hp03_softmax.py"),
                                                   corpus_file("honest/h03_softmax.py"), io::Json::object());
  ASSERT_TRUE(verification.has_value()) << verification.error().to_string();
  EXPECT_EQ(verification->judgement.name, "correct_cpu") << verification->record_json;
  EXPECT_THAT(verification->record_json, HasSubstr(R"("overrides":{"batch_size":64})"));
}

TEST(verifier, a_workbench_serves_one_candidate_and_problem_after_the_other) {
  const Verifier verifier = make_verifier();
  const auto sandbox = Sandbox::find();
  ASSERT_TRUE(sandbox.has_value());
  Workbench workbench(verifier.python(), *sandbox);
  const std::string add = corpus_file("honest/problems/hp01_add.py");
  const std::string kernel = corpus_file("honest/h01_add.py");
  const io::Json small = {{"rows", 9}, {"cols", 7}};
  const auto verdict = [&](const std::string& problem, const std::string& candidate) -> std::string {
    const auto verification = verifier.verify(workbench, nullptr, problem, candidate, small, true);
    EXPECT_TRUE(verification.has_value()) << verification.error().to_string();
    return verification ? verification->judgement.name : "";
  };
  EXPECT_EQ(verdict(add, kernel), "correct_cpu");
  // What one candidate does to its process is gone with it.
  EXPECT_EQ(verdict(add, "import torch\ntorch.randn = None\n" + kernel), "cheating:reference_tamper");
  EXPECT_EQ(verdict(add, kernel), "correct_cpu");
  // What one problem does to its process, too; one that kills it, or gives no answer, costs itself alone.
  EXPECT_EQ(verdict("import torch\ntorch.nn.Module = None\ntorch.Tensor.__add__ = None\n" + add, kernel),
            "not_verified");
  EXPECT_EQ(verdict(add, kernel), "correct_cpu");
  EXPECT_EQ(verdict("import os\nos._exit(3)\n", kernel), "not_verified");
  EXPECT_EQ(verdict(add, kernel), "correct_cpu");
  EXPECT_EQ(verdict("import sys\nsys.exit(3)\n", kernel), "not_verified");
  EXPECT_EQ(verdict(add, kernel), "correct_cpu");
}

TEST(verifier, a_broken_problem_is_no_statement_about_the_candidate) {
  const auto verification = make_verifier().verify("raise SystemError('broken')",
                                                   corpus_file("honest/h01_add.py"), io::Json::object());
  ASSERT_TRUE(verification.has_value()) << verification.error().to_string();
  EXPECT_EQ(verification->judgement.name, "not_verified");
  EXPECT_THAT(verification->judgement.detail, HasSubstr("broken"));
}

TEST(verifier, cuda_is_refused_with_the_reason) {
  const auto verifier =
      Verifier::create({.device = Device::kCuda, .sandbox = true, .num_workers = 1, .version = ""});
  ASSERT_FALSE(verifier.has_value());
  EXPECT_EQ(verifier.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(verifier.error().message, HasSubstr("GPU"));
}

}  // namespace
}  // namespace nemoforge::verify
