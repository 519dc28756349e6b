// pass@1 of runs, and whether one run's is better than another's.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/result.h"

namespace nemoforge::cli {

struct PassCount {
  int64_t num_correct = 0;
  int64_t num_samples = 0;
};

// By problem id.
using PassCounts = std::map<std::string, PassCount>;

// Of the problems that the run holds out: every trace counts as a sample; kUnavailable where one has no
// verdict.
[[nodiscard]] Result<PassCounts> count_held_out_passes(const std::string& run_dir);

struct Interval {
  double low = 0;
  double high = 0;
};

struct PassComparison {
  double before = 0;  // mean over problems of the share of correct samples
  double after = 0;
  Interval before_interval;  // 95%
  Interval after_interval;
  Interval difference_interval;
};

// Percentile bootstrap over problems, drawn by `seed`: a problem is drawn with both its rates, so that the
// interval of the difference is that of paired measurements. Source: Efron and Tibshirani, "An introduction
// to the bootstrap" (1993), chapter 13. kInvalidData where the two are not of the same problems, or of none.
[[nodiscard]] Result<PassComparison> compare_passes(const PassCounts& before, const PassCounts& after,
                                                    uint64_t seed);

}  // namespace nemoforge::cli
