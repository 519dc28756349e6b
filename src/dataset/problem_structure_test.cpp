#include "dataset/problem_structure.h"

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

constexpr const char* kProblem =
    "import torch\nimport torch.nn as nn\n\nclass Model(nn.Module):\n    \"\"\"Doc.\"\"\"\n"
    "    def forward(self, x):\n        return torch.relu(x) - 1.3\n\nB = 8\n\n\ndef get_inputs():\n"
    "    return [torch.randn(B, 4)]\n";

TEST(ProblemStructure, ignores_names_sizes_comments_and_imports) {
  EXPECT_EQ(structure_of(kProblem),
            structure_of(
                "import torch\nfrom torch import (\n    nn,\n)\nclass Model(nn.Module):\n"
                "    def forward(self, value):\n        # subtracts\n        return torch.relu(value) - 2\n"
                "batch_size = 1024\ndef get_inputs():\n    return [torch.randn(batch_size, 16)]"));
}

// What a formatter, a type checker or a rename does to a source.
TEST(ProblemStructure, survives_trivial_edits) {
  const std::string plain = R"(import torch
import torch.nn as nn
import torch.nn.functional as F

class Model(nn.Module):
    def __init__(self, size, mode='mean'):
        super(Model, self).__init__()
        self.linear = nn.Linear(size, size)
        self.mode = mode

    def forward(self, x):
        y = F.relu(self.linear(x))
        return torch.where(y == 0, x, y)

batch_size = 16

def get_inputs():
    return [torch.rand(batch_size, 8)]

def get_init_inputs():
    return [8, 'mean']
)";
  const std::string edited = R"("""Another file altogether."""
from typing import List
from torch import nn, rand as draw
from torch.nn import functional as fun
import torch as th
import torch

class Model(torch.nn.Module):
    """Says something."""
    def __init__(
        this,
        width: int,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        this.linear = nn.Linear(width, width)
        this.mode = reduction

    def forward(this, value: th.Tensor) -> "th.Tensor":
        hidden = fun.relu(
            this.linear(value),
        )  # rectified
        return th.where(hidden == 0.0, value, hidden)

N = 4096

def get_inputs() -> List[th.Tensor]:
    return [draw(N, 512)]

def get_init_inputs():
    return [512, "mean"]
)";
  EXPECT_EQ(structure_tokens(plain), structure_tokens(edited));
  std::string other = edited;
  other.replace(other.find("fun.relu"), 8, "fun.gelu");
  EXPECT_NE(structure_of(plain), structure_of(other));
}

TEST(ProblemStructure, tells_operations_and_arguments_apart) {
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

TEST(ProblemStructure, the_bundled_held_out_problems_are_not_among_the_training_problems) {
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
