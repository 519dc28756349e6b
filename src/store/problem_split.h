// Which problems of a run are held out from training: decided once, kept for good.
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace nemoforge::store {

enum class Split { kTrain, kHeldOut };

// Problem id to its side.
using ProblemSplits = std::map<std::string, Split>;

// The sides recorded in the run folder `run_dir` (its splits.json); empty where none were.
[[nodiscard]] Result<ProblemSplits> read_problem_splits(const std::string& run_dir);

// Adds `splits` to what the run folder, which must exist, has recorded. kInvalidArgument, and no change,
// where a problem would change sides.
[[nodiscard]] Status record_problem_splits(const std::string& run_dir, const ProblemSplits& splits);

}  // namespace nemoforge::store
