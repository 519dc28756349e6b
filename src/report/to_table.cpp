#include <fmt/format.h>

#include "report/plain_text.h"
#include "report/report.h"

namespace nemoforge::report {
namespace {

std::string percent(const Estimate& estimate) {
  return fmt::format("{:.1f}% [{:.1f}, {:.1f}]", 100 * estimate.value, 100 * estimate.low,
                     100 * estimate.high);
}

std::string joined(const std::vector<std::string>& values) {
  std::string text;
  for (const std::string& value : values) text += (text.empty() ? "" : ", ") + plain_text(value);
  return text.empty() ? "-" : text;
}

std::string groups_table(const RunReport& report) {
  std::string table =
      fmt::format("\n{:<12} {:>8} {:>8} {:>8} {:>7}\n", "", "problems", "samples", "correct", "solved");
  for (const Group& group : report.groups) {
    table += fmt::format("{:<12} {:>8} {:>8} {:>8} {:>7}\n", group.name, group.num_problems,
                         group.num_samples, group.num_correct, group.num_solved);
  }
  table += "\nmean over problems [95% interval]\n";
  for (const Group& group : report.groups) {
    for (const auto& [k, estimate] : group.pass_at_k) {
      table += fmt::format("{:<12} pass@{:<6} {:<22} of {} problems\n", group.name, k, percent(estimate),
                           estimate.num_problems);
    }
    for (const auto& [threshold, estimate] : group.fast_p) {
      table += fmt::format("{:<12} fast_{:<6} {}\n", group.name, threshold,
                           estimate ? percent(*estimate) : "no speedup was measured");
    }
  }
  return table;
}

std::string distribution(const char* name, const std::vector<double>& sorted, int decimals) {
  if (sorted.empty()) return fmt::format("{:<34} -\n", name);
  return fmt::format("{:<34} median {:.{}f}, p10 {:.{}f}, p90 {:.{}f}, of {}\n", name, quantile(sorted, 0.5),
                     decimals, quantile(sorted, 0.1), decimals, quantile(sorted, 0.9), decimals,
                     sorted.size());
}

std::string run_table(const RunReport& report) {
  std::string table =
      fmt::format("{}: {} traces of {} problems, {} with code, {} verified on {}; model {}\n",
                  plain_text(report.dir), report.num_traces, report.num_problems, report.num_with_code,
                  report.num_verified, joined(report.devices), joined(report.models));
  table += groups_table(report);
  if (report.attempts.size() > 1) {
    table += fmt::format("\n{:<12} {:>8} {:>8} {:>20}\n", "attempt", "verified", "correct",
                         "samples correct so far");
    for (size_t i = 0; i < report.attempts.size(); ++i) {
      const AttemptCounts& attempt = report.attempts[i];
      table += fmt::format("{:<12} {:>8} {:>8} {:>20}\n", i + 1, attempt.num_traces, attempt.num_correct,
                           attempt.num_samples_correct);
    }
  }
  table += "\nverdicts\n";
  for (const auto& [verdict, count] : report.verdicts) {
    table += fmt::format("{:>8} {}\n", count, plain_text(verdict));
  }
  table += '\n';
  table += distribution("speedup of correct samples", report.speedups, 2);
  if (!report.speedups.empty()) {
    table +=
        fmt::format("{:<34} {:.2f}\n", "geometric mean of the speedups", geometric_mean(report.speedups));
  }
  table += distribution("tokens of an answer", report.completion_tokens, 0);
  table += distribution("tokens of a correct answer", report.correct_completion_tokens, 0);
  table += fmt::format(
      "{:<34} {}\n", "tokens sampled a correct sample",
      report.tokens_per_correct_sample ? fmt::format("{:.0f}", *report.tokens_per_correct_sample) : "-");
  if (!report.excluded_problems.empty()) {
    table +=
        fmt::format("left out, as no verdict is about the candidate: {}\n", joined(report.excluded_problems));
  }
  return table;
}

}  // namespace

std::string to_table(const std::vector<RunReport>& reports) {
  std::string table;
  for (const RunReport& report : reports) table += (table.empty() ? "" : "\n") + run_table(report);
  return table;
}

}  // namespace nemoforge::report
