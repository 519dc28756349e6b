#include <nlohmann/json.hpp>

#include "io/json.h"
#include "report/report.h"

namespace nemoforge::report {
namespace {

using io::Json;

Json estimate_json(const Estimate& estimate) {
  return {{"value", estimate.value},
          {"low", estimate.low},
          {"high", estimate.high},
          {"num_problems", estimate.num_problems}};
}

Json group_json(const Group& group) {
  Json pass = Json::object();
  for (const auto& [k, estimate] : group.pass_at_k) pass[std::to_string(k)] = estimate_json(estimate);
  Json fast = Json::object();
  for (const auto& [threshold, estimate] : group.fast_p) {
    fast[Json(threshold).dump()] = estimate ? estimate_json(*estimate) : Json(nullptr);
  }
  return {{"name", group.name},
          {"num_problems", group.num_problems},
          {"num_samples", group.num_samples},
          {"num_correct", group.num_correct},
          {"num_timed", group.num_timed},
          {"num_solved", group.num_solved},
          {"pass_at_k", std::move(pass)},
          {"fast_p", std::move(fast)}};
}

Json distribution_json(const std::vector<double>& sorted) {
  if (sorted.empty()) return nullptr;
  return {{"count", sorted.size()},          {"min", sorted.front()},        {"p10", quantile(sorted, 0.1)},
          {"median", quantile(sorted, 0.5)}, {"p90", quantile(sorted, 0.9)}, {"max", sorted.back()}};
}

Json run_json(const RunReport& report) {
  Json groups = Json::array();
  for (const Group& group : report.groups) groups.push_back(group_json(group));
  Json verdicts = Json::object();
  for (const auto& [verdict, count] : report.verdicts) verdicts[verdict] = count;
  Json attempts = Json::array();
  for (const AttemptCounts& attempt : report.attempts) {
    attempts.push_back({{"num_traces", attempt.num_traces},
                        {"num_correct", attempt.num_correct},
                        {"num_samples_correct", attempt.num_samples_correct}});
  }
  Json speedups = distribution_json(report.speedups);
  if (!speedups.is_null()) speedups["geometric_mean"] = geometric_mean(report.speedups);
  return {{"run", report.dir},
          {"models", report.models},
          {"devices", report.devices},
          {"num_problems", report.num_problems},
          {"num_traces", report.num_traces},
          {"num_verified", report.num_verified},
          {"num_with_code", report.num_with_code},
          {"groups", std::move(groups)},
          {"attempts", std::move(attempts)},
          {"verdicts", std::move(verdicts)},
          {"excluded_problems", report.excluded_problems},
          {"speedup", std::move(speedups)},
          {"completion_tokens", distribution_json(report.completion_tokens)},
          {"completion_tokens_of_correct", distribution_json(report.correct_completion_tokens)},
          {"tokens_per_correct_sample",
           report.tokens_per_correct_sample ? Json(*report.tokens_per_correct_sample) : Json(nullptr)}};
}

}  // namespace

std::string to_json(const std::vector<RunReport>& reports) {
  Json runs = Json::array();
  for (const RunReport& report : reports) runs.push_back(run_json(report));
  return io::dump_json({{"format", 1}, {"confidence", 0.95}, {"runs", std::move(runs)}});
}

}  // namespace nemoforge::report
