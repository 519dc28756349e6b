// pass@1 of runs, and whether one run's is better than another's.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/result.h"

namespace nemoforge::report {

struct PassCount {
  int64_t num_correct = 0;
  int64_t num_samples = 0;
};

// By problem id.
using PassCounts = std::map<std::string, PassCount>;

// Of the problems that the run holds out, counted as nemoforge report does: a verdict that says nothing about
// the candidate is no sample, and a problem without samples is not among them. kUnavailable where a trace has
// no verdict.
[[nodiscard]] Result<PassCounts> count_held_out_passes(const std::string& run_dir);

struct Interval {
  double low = 0;
  double high = 0;
};

struct PassComparison {
  int64_t num_problems = 0;
  double before = 0;  // mean over problems of the share of correct samples
  double after = 0;
  Interval before_interval;  // 95%
  Interval after_interval;
  Interval difference_interval;
};

// Percentile bootstrap over problems, drawn by `seed`: a problem is drawn with both its rates, so that the
// interval of the difference is that of paired measurements. Problems that only one of the two has are left
// out of all figures. Source: Efron and Tibshirani, "An introduction to the bootstrap" (1993), chapter 13.
// kInvalidData where the two have no problem in common.
[[nodiscard]] Result<PassComparison> compare_passes(const PassCounts& before, const PassCounts& after,
                                                    uint64_t seed);

}  // namespace nemoforge::report
