// Whose work it was: what the tensor operations that a candidate asked PyTorch for say beside those of the
// reference.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace nemoforge::verify {

enum class OperatorKind { kLayout, kRandom, kCompute };

// Allocation, views and copies are layout; draws of random numbers are random; everything else computes.
[[nodiscard]] OperatorKind operator_kind(std::string_view name);

// The class in which an operator is counted: its many spellings (aten::addmm, aten::mm, aten::bmm: "matmul")
// are one.
[[nodiscard]] std::string operator_class(std::string_view name);

// Name to number of calls.
using OperatorCounts = std::map<std::string, int64_t>;

enum class WorkShare {
  kAllTriton,        // no compute operator
  kPartial,          // some of the reference's operators, at least one of them replaced
  kNothingReplaced,  // as much computing as the reference does
  kForeign,          // an operator that the reference does not have
};

struct WorkJudgement {
  WorkShare share = WorkShare::kAllTriton;
  std::vector<std::string> operators;  // the classes that the candidate left to PyTorch
};

// `reference`: all operators of the reference's forward. `candidate`: those that the candidate asked for on
// data that depends on its inputs.
[[nodiscard]] WorkJudgement judge_work(const OperatorCounts& reference, const OperatorCounts& candidate);

}  // namespace nemoforge::verify
