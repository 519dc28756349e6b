#include "dataset/python_tokens.h"

#include <filesystem>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/file.h"

namespace nemoforge::dataset {
namespace {

std::string structure_of(std::string_view source) {
  return structure_hash(structure_tokens(source));
}

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(PythonTokens, leaves_out_comments_docstrings_and_layout) {
  EXPECT_THAT(python_tokens("def f(a):  # adds\n    \"\"\"Adds.\n\n    Twice.\"\"\"\n    return a + 1e-5\n"),
              ElementsAre("def", "f", "(", "a", ")", ":", "return", "a", "+", "1e-5"));
  EXPECT_THAT(python_tokens("x = 'a # b'\n'alone'  # note\ny = \\\n  .5"),
              ElementsAre("x", "=", "'a # b'", "y", "=", ".5"));
  EXPECT_THAT(python_tokens("f(\n 'first',\n 'second')"),
              ElementsAre("f", "(", "'first'", ",", "'second'", ")"));
  EXPECT_THAT(python_tokens("s = rb'\\'' f\"{a}\""), ElementsAre("s", "=", "rb'\\''", "f\"{a}\""));
  EXPECT_THAT(python_tokens("0x1e-1"), ElementsAre("0x1e", "-", "1"));
}

TEST(PythonTokens, takes_any_text) {
  EXPECT_THAT(python_tokens(""), IsEmpty());
  EXPECT_THAT(python_tokens("x = '''never closed"), ElementsAre("x", "=", "'''never closed"));
  EXPECT_THAT(python_tokens("x = 'open\ny"), ElementsAre("x", "=", "'open", "y"));
  EXPECT_THAT(python_tokens(")]}\\"), ElementsAre(")", "]", "}", "\\"));
  EXPECT_THAT(python_tokens("x = 'a\\"), ElementsAre("x", "=", "'a\\"));
}

constexpr const char* kProblem =
    "import torch\nimport torch.nn as nn\n\nclass Model(nn.Module):\n    \"\"\"Doc.\"\"\"\n"
    "    def forward(self, x):\n        return torch.relu(x) - 1.3\n\nB = 8\n\n\ndef get_inputs():\n"
    "    return [torch.randn(B, 4)]\n";

TEST(StructureHash, ignores_names_sizes_comments_and_imports) {
  EXPECT_EQ(structure_of(kProblem),
            structure_of(
                "import torch\nfrom torch import (\n    nn,\n)\nclass Model(nn.Module):\n"
                "    def forward(self, value):\n        # subtracts\n        return torch.relu(value) - 2\n"
                "batch_size = 1024\ndef get_inputs():\n    return [torch.randn(batch_size, 16)]"));
}

TEST(StructureHash, tells_operations_and_arguments_apart) {
  const std::string problem = kProblem;
  for (const auto& [from, to] : std::map<std::string, std::string>{{"torch.relu", "torch.tanh"},
                                                                   {"- 1.3", "+ 1.3"},
                                                                   {"relu(x)", "relu(x, dim=1)"},
                                                                   {"randn", "rand"}}) {
    std::string other = problem;
    other.replace(other.find(from), from.size(), to);
    EXPECT_NE(structure_of(problem), structure_of(other)) << to;
  }
}

TEST(StructureHash, the_bundled_held_out_problems_are_not_among_the_training_problems) {
  std::map<std::string, std::string> training;
  std::map<std::string, std::string> held_out;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(NEMOFORGE_SOURCE_DIR) + "/problems/bundled")) {
    const std::string name = entry.path().stem().string();
    (name.starts_with("train") ? training : held_out)
        .emplace(structure_of(*io::read_file(entry.path())), name);
  }
  EXPECT_GE(training.size(), 20u);
  for (const auto& [hash, name] : held_out)
    EXPECT_FALSE(training.contains(hash)) << name << " " << training[hash];
}

}  // namespace
}  // namespace nemoforge::dataset
