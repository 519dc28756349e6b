#include "trace/problem.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary_folder.h"

namespace nemoforge::trace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr const char* kSource =
    "import torch\nclass Model(torch.nn.Module):\n    pass\ndef get_inputs():\n    return []\n"
    "def get_init_inputs():\n    return []\n";

class ProblemTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text = kSource) const {
    const std::filesystem::path path = std::filesystem::path(dir_) / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  static std::vector<std::string> ids(const Result<std::vector<Problem>>& problems) {
    EXPECT_TRUE(problems.has_value()) << problems.error().to_string();
    std::vector<std::string> ids;
    for (const Problem& problem : *problems) ids.push_back(problem.id);
    return ids;
  }
  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
};

TEST_F(ProblemTest, a_checkout_is_loaded_by_level_and_number) {
  write("level1/10_ten.py");
  write("level1/2_two.py");
  write("level2/1_one.py");
  write("level2/__init__.py", "");
  write("notes/3_three.py");
  EXPECT_THAT(ids(load_problems(dir_)), ElementsAre("level1_2_two", "level1_10_ten", "level2_1_one"));
  EXPECT_THAT(ids(load_problems(dir_, {.levels = {{2, 3}}})), ElementsAre("level2_1_one"));
  EXPECT_THAT(ids(load_problems(dir_, {.levels = {{1, 1}}, .numbers = {{5, 20}}})),
              ElementsAre("level1_10_ten"));
  EXPECT_THAT(ids(load_problems(dir_, {.id_pattern = "t(wo|en)$"})),
              ElementsAre("level1_2_two", "level1_10_ten"));
  EXPECT_THAT(ids(load_problems(dir_ + "/level1/10_ten.py")), ElementsAre("level1_10_ten"));
  std::filesystem::create_directory(dir_ + "/repository");
  std::filesystem::rename(dir_ + "/level2", dir_ + "/repository/level2");
  std::filesystem::create_directory(dir_ + "/checkout");
  std::filesystem::rename(dir_ + "/repository", dir_ + "/checkout/KernelBench");
  EXPECT_THAT(ids(load_problems(dir_ + "/checkout")), ElementsAre("level2_1_one"));
}

TEST_F(ProblemTest, a_file_that_is_no_problem_is_named_with_what_it_lacks) {
  write("bad.py", "class ModelNew:\n    pass\ndef get_inputs():\n  pass\ndef get_init_inputs():\n  pass\n");
  auto problems = load_problems(dir_);
  ASSERT_FALSE(problems.has_value());
  EXPECT_EQ(problems.error().code, ErrorCode::kInvalidData);
  EXPECT_THAT(problems.error().message, HasSubstr("bad.py: has no `class Model`"));
  write("bad.py", "class Model:\n    def get_inputs(self): pass\ndef get_init_inputs():\n  pass\n");
  EXPECT_THAT(load_problems(dir_).error().message, HasSubstr("`def get_inputs`"));
  write("bad.py", std::string(kSource) + "\xff");
  EXPECT_THAT(load_problems(dir_).error().message, HasSubstr("UTF-8"));
}

TEST_F(ProblemTest, nothing_to_load_is_an_error_that_says_why) {
  EXPECT_EQ(load_problems(dir_ + "/absent").error().code, ErrorCode::kNotFound);
  EXPECT_THAT(load_problems(dir_).error().message, HasSubstr("no Python files"));
  write("a.py");
  EXPECT_THAT(load_problems(dir_, {.numbers = {{1, 9}}}).error().message, HasSubstr("none of its 1"));
  EXPECT_EQ(load_problems(dir_, {.id_pattern = "("}).error().code, ErrorCode::kInvalidArgument);
  write("level1/1_a.py");
  write("KernelBench/level1/1_a.py");
  EXPECT_THAT(load_problems(dir_).error().message, HasSubstr("both problem level1_1_a"));
}

TEST(NumberRanges, parses_lists_and_ranges) {
  EXPECT_THAT(*parse_number_ranges("1-20,33"), ElementsAre(Pair(1, 20), Pair(33, 33)));
  for (const char* bad : {"", "1,", "a", "3-1", "1-2-3", "-1", "1 2"}) {
    EXPECT_FALSE(parse_number_ranges(bad).has_value()) << bad;
  }
}

TEST(BundledProblems, all_parse) {
  const auto problems = load_problems(std::string(NEMOFORGE_SOURCE_DIR) + "/problems/bundled");
  ASSERT_TRUE(problems.has_value()) << problems.error().to_string();
  EXPECT_THAT(*problems, SizeIs(48));
}

// All of KernelBench where a checkout is at hand; the bundled problems stand in for it elsewhere.
TEST(KernelBench, all_problems_parse) {
  const char* checkout = std::getenv("NEMOFORGE_KERNELBENCH_DIR");
  const auto problems =
      load_problems(checkout != nullptr ? checkout : std::string(NEMOFORGE_SOURCE_DIR) + "/problems/bundled");
  ASSERT_TRUE(problems.has_value()) << problems.error().to_string();
  EXPECT_GE(problems->size(), checkout != nullptr ? 250u : 24u);
}

}  // namespace
}  // namespace nemoforge::trace
