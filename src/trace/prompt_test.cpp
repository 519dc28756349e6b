#include "trace/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary_folder.h"
#include "io/file.h"

namespace nemoforge::trace {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string prompts_dir() {
  return std::string(NEMOFORGE_SOURCE_DIR) + "/problems/prompts/";
}

TEST(Prompt, zero_shot_is_the_instruction_and_the_problem_in_a_block) {
  EXPECT_EQ(
      PromptTemplate::zero_shot().render("import torch\nx = 1\n\n"),
      "Optimize the architecture named Model with Triton kernels. Name the new architecture ModelNew. Output "
      "only the new code in a code block.\n\n```python\nimport torch\nx = 1\n```");
}

TEST(Prompt, the_file_of_the_zero_shot_template_is_the_default) {
  const auto read = PromptTemplate::read(prompts_dir() + "zero_shot.txt");
  ASSERT_TRUE(read.has_value()) << read.error().to_string();
  EXPECT_EQ(read->hash(), PromptTemplate::zero_shot().hash());
}

TEST(Prompt, templates_of_the_project_render_the_problem) {
  for (const char* name : {"one_shot.txt", "zero_shot_h100.txt"}) {
    const auto read = PromptTemplate::read(prompts_dir() + name);
    ASSERT_TRUE(read.has_value()) << read.error().to_string();
    const std::string message = read->render("the_problem = 1\n");
    EXPECT_THAT(message, HasSubstr("```python\nthe_problem = 1\n```"));
    EXPECT_EQ(message.find("{{"), std::string::npos);
  }
}

TEST(Prompt, a_source_with_fences_gets_a_longer_one) {
  EXPECT_THAT(PromptTemplate::zero_shot().render("s = '```'"), EndsWith("\n````python\ns = '```'\n````"));
}

TEST(Prompt, unusable_files_are_refused) {
  const TemporaryFolder folder = TemporaryFolder::create().value();
  ASSERT_TRUE(io::write_file_atomically(folder.path("empty.txt"), " \n"));
  ASSERT_TRUE(io::write_file_atomically(folder.path("bytes.txt"), "a\xff"));
  EXPECT_EQ(PromptTemplate::read(folder.path("empty.txt")).error().code, ErrorCode::kInvalidData);
  EXPECT_EQ(PromptTemplate::read(folder.path("bytes.txt")).error().code, ErrorCode::kInvalidData);
  EXPECT_EQ(PromptTemplate::read(folder.path("absent.txt")).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace nemoforge::trace
