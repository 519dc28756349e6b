#include "report/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace nemoforge::report {
namespace {

constexpr double kNormalQuantile975 = 1.959963984540054;

}  // namespace

double pass_at_k(int64_t num_samples, int64_t num_correct, int64_t k) {
  NF_CHECK(0 <= num_correct && num_correct <= num_samples && 1 <= k && k <= num_samples)
      << num_samples << ' ' << num_correct << ' ' << k;
  if (num_samples - num_correct < k) return 1;
  double all_wrong = 1;
  for (int64_t i = num_samples - num_correct + 1; i <= num_samples; ++i) {
    all_wrong *= 1 - static_cast<double>(k) / static_cast<double>(i);
  }
  return 1 - all_wrong;
}

std::optional<Estimate> mean_over_problems(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  const double z2 = kNormalQuantile975 * kNormalQuantile975;
  const double centre = (mean + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kNormalQuantile975 / (1 + z2 / n) * std::sqrt(mean * (1 - mean) / n + z2 / (4 * n * n));
  return Estimate{mean, std::max(0.0, std::min(mean, centre - half)),
                  std::min(1.0, std::max(mean, centre + half)), static_cast<int64_t>(values.size())};
}

double quantile(const std::vector<double>& sorted, double share) {
  NF_CHECK(!sorted.empty());
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

double geometric_mean(const std::vector<double>& values) {
  NF_CHECK(!values.empty());
  double sum = 0;
  for (const double value : values) sum += std::log(value);
  return std::exp(sum / static_cast<double>(values.size()));
}

}  // namespace nemoforge::report
