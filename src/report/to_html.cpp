#include <fmt/format.h>

#include "report/plain_text.h"
#include "report/report.h"
#include "report/svg.h"

namespace nemoforge::report {
namespace {

// The policy forbids whatever a name or an error might smuggle in past the escaping: scripts, requests,
// forms.
constexpr const char* kHead =
    R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'">
<meta name="viewport" content="width=device-width">
<title>nemoforge report</title>
<style>
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #d8d8d8; --paper: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #444444; --paper: #161616; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--soft); text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; max-width: 46rem; display: block; margin: 1.5rem 0; font-size: 12px; }
svg text { fill: var(--ink); } svg .title { font-size: 14px; font-weight: 600; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .grid { stroke: var(--soft); } svg .interval { stroke: var(--ink); stroke-width: 1.5; }
.note { opacity: .75; overflow-wrap: anywhere; }
</style></head><body>
<h1>nemoforge report</h1>
)html";

std::string percent(const Estimate& estimate) {
  return fmt::format("{:.1f}% [{:.1f}, {:.1f}]", 100 * estimate.value, 100 * estimate.low,
                     100 * estimate.high);
}

std::string joined(const std::vector<std::string>& values) {
  std::string html;
  for (const std::string& value : values) html += (html.empty() ? "" : ", ") + html_text(value);
  return html.empty() ? "–" : html;
}

std::string groups_table(const RunReport& report) {
  std::string html =
      "<table><tr><th></th><th>problems</th><th>samples</th><th>correct</th><th>timed</th><th>solved</th></"
      "tr>\n";
  for (const Group& group : report.groups) {
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                        html_text(group.name), group.num_problems, group.num_samples, group.num_correct,
                        group.num_timed, group.num_solved);
  }
  return html + "</table>\n";
}

std::vector<Bar> fast_bars(const RunReport& report) {
  std::vector<Bar> bars;
  for (const Group& group : report.groups) {
    for (const auto& [threshold, estimate] : group.fast_p) {
      if (!estimate) continue;
      bars.push_back({fmt::format("{}, fast_{:g}", group.name, threshold), estimate->value,
                      percent(*estimate), estimate->low, estimate->high});
    }
  }
  return bars;
}

std::vector<Bar> verdict_bars(const RunReport& report) {
  std::vector<Bar> bars;
  for (const auto& [verdict, count] : report.verdicts) {
    bars.push_back({verdict, static_cast<double>(count), std::to_string(count)});
  }
  return bars;
}

std::vector<Bar> attempt_bars(const RunReport& report) {
  std::vector<Bar> bars;
  for (size_t i = 0; i < report.attempts.size(); ++i) {
    const AttemptCounts& attempt = report.attempts[i];
    bars.push_back({fmt::format("attempt {}", i + 1), static_cast<double>(attempt.num_samples_correct),
                    fmt::format("{} ({} of {} verified)", attempt.num_samples_correct, attempt.num_correct,
                                attempt.num_traces)});
  }
  return bars;
}

std::string run_section(const RunReport& report) {
  std::string html = fmt::format(
      "<h2>{}</h2>\n<p class=\"note\">{} traces of {} problems, {} with code, {} verified on {}. Model: "
      "{}.</p>\n",
      html_text(report.dir), report.num_traces, report.num_problems, report.num_with_code,
      report.num_verified, joined(report.devices), joined(report.models));
  html += groups_table(report);
  html += bar_chart("Correct and faster than the baseline, mean over problems", fast_bars(report), 1);
  if (report.attempts.size() > 1) {
    html += bar_chart("Samples correct by their attempt or an earlier one", attempt_bars(report));
  }
  html += bar_chart("Verdicts", verdict_bars(report));
  if (report.speedups.empty()) {
    html += "<p class=\"note\">No speedup was measured.</p>\n";
  } else {
    html += bar_chart(
        fmt::format("Speedup of correct samples (geometric mean {:.2f})", geometric_mean(report.speedups)),
        logarithmic_histogram(report.speedups, 1.25));
  }
  std::vector<double> tokens = report.completion_tokens;
  std::erase(tokens, 0.0);
  html += bar_chart("Tokens of an answer", logarithmic_histogram(tokens, 2));
  tokens = report.correct_completion_tokens;
  std::erase(tokens, 0.0);
  html += bar_chart("Tokens of a correct answer", logarithmic_histogram(tokens, 2));
  if (report.tokens_per_correct_sample) {
    html += fmt::format("<p>{:.0f} tokens were sampled for each correct sample.</p>\n",
                        *report.tokens_per_correct_sample);
  }
  if (!report.excluded_problems.empty()) {
    html += fmt::format("<p class=\"note\">Left out, as no verdict is about the candidate: {}.</p>\n",
                        joined(report.excluded_problems));
  }
  return html;
}

}  // namespace

std::string to_html(const std::vector<RunReport>& reports) {
  std::string html = kHead;
  std::vector<Line> lines;
  for (const RunReport& report : reports) {
    Line line{report.dir, {}};
    for (const auto& [k, estimate] : report.groups.front().pass_at_k) {
      line.points.emplace_back(static_cast<double>(k), estimate);
    }
    lines.push_back(std::move(line));
  }
  html += line_chart("pass@k, mean over problems with its 95% interval", "k", lines);
  for (const RunReport& report : reports) html += run_section(report);
  return html + "</body></html>\n";
}

}  // namespace nemoforge::report
