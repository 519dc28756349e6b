// The estimators of a report: pure functions of counts and values.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace nemoforge::report {

// The chance that of k samples drawn from num_samples, num_correct of them correct, at least one is correct:
// 1 - C(n - c, k) / C(n, k), the unbiased estimator of pass@k. Source: Chen et al., "Evaluating Large
// Language Models Trained on Code" (2021), equation 1, as a product so that nothing overflows. Needs 0 <=
// num_correct <= num_samples and 1 <= k <= num_samples.
[[nodiscard]] double pass_at_k(int64_t num_samples, int64_t num_correct, int64_t k);

// A mean over problems with its interval at 95% confidence.
struct Estimate {
  double value = 0;
  double low = 0;
  double high = 0;
  int64_t num_problems = 0;  // that the mean is taken over
};

// The mean of values from [0, 1], one a problem; nothing where there are none. The interval is Wilson's score
// interval with the number of problems: exact in its variance for values of 0 and 1, wider than needed for
// values between (their variance is at most mean * (1 - mean)), and sensible at 0 and at 1, where one from
// the sample's variance would be empty. It speaks of other problems of the same kind, not of other samples.
[[nodiscard]] std::optional<Estimate> mean_over_problems(const std::vector<double>& values);

// The value below which a share of `sorted` (ascending, not empty) lies, interpolated between neighbours.
[[nodiscard]] double quantile(const std::vector<double>& sorted, double share);

// Of positive values, not empty.
[[nodiscard]] double geometric_mean(const std::vector<double>& values);

}  // namespace nemoforge::report
