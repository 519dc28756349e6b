#include "report/pass_rate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/rng.h"
#include "report/report.h"
#include "store/problem_split.h"
#include "store/run_store.h"

namespace nemoforge::report {
namespace {

constexpr int kNumResamples = 10000;

Interval percentile_interval(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[static_cast<size_t>(std::lround(share * static_cast<double>(values.size() - 1)))];
  };
  return {at(0.025), at(0.975)};
}

double rate(const PassCount& count) {
  return static_cast<double>(count.num_correct) / static_cast<double>(count.num_samples);
}

}  // namespace

Result<PassCounts> count_held_out_passes(const std::string& run_dir) {
  NF_TRY(const store::RunStore run, store::RunStore::open(run_dir, store::Access::kRead));
  NF_TRY(const store::ProblemSplits splits, store::read_problem_splits(run_dir));
  PassCounts counts;
  int64_t num_unverified = 0;
  NF_RETURN_IF_ERROR(run.for_each_trace([&](store::JudgedTrace&& judged) {
    const auto split = splits.find(judged.trace.problem_id);
    if (split == splits.end() || split->second != store::Split::kHeldOut) return true;
    if (!judged.verdict) {
      ++num_unverified;
    } else if (is_about_candidate(judged.verdict->verdict)) {
      PassCount& count = counts[judged.trace.problem_id];
      ++count.num_samples;
      if (judged.verdict->correct) ++count.num_correct;
    }
    return true;
  }));
  if (num_unverified > 0) {
    return error(ErrorCode::kUnavailable,
                 run_dir + ": " + std::to_string(num_unverified) + " traces have no verdict",
                 "nemoforge verify --run " + run_dir);
  }
  return counts;
}

Result<PassComparison> compare_passes(const PassCounts& before, const PassCounts& after, uint64_t seed) {
  std::vector<std::pair<double, double>> rates;
  for (const auto& [id, count] : before) {
    const auto found = after.find(id);
    if (found != after.end()) rates.emplace_back(rate(count), rate(found->second));
  }
  if (rates.empty()) {
    return error(ErrorCode::kInvalidData,
                 "no held-out problem was measured both before and after training: " +
                     std::to_string(before.size()) + " before, " + std::to_string(after.size()) + " after");
  }
  const auto num_problems = static_cast<double>(rates.size());
  std::vector<double> before_means;
  std::vector<double> after_means;
  std::vector<double> differences;
  Rng rng(seed);
  for (int i = 0; i < kNumResamples; ++i) {
    double before_sum = 0;
    double after_sum = 0;
    for (size_t k = 0; k < rates.size(); ++k) {
      const auto& drawn = rates[rng.below(rates.size())];
      before_sum += drawn.first;
      after_sum += drawn.second;
    }
    before_means.push_back(before_sum / num_problems);
    after_means.push_back(after_sum / num_problems);
    differences.push_back((after_sum - before_sum) / num_problems);
  }
  PassComparison result;
  result.num_problems = static_cast<int64_t>(rates.size());
  for (const auto& [first, second] : rates) {
    result.before += first / num_problems;
    result.after += second / num_problems;
  }
  result.before_interval = percentile_interval(before_means);
  result.after_interval = percentile_interval(after_means);
  result.difference_interval = percentile_interval(differences);
  return result;
}

}  // namespace nemoforge::report
