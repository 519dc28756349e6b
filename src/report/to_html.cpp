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
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--soft); text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
svg { width: 100%; min-width: 36rem; max-width: 54rem; display: block; margin: 1.5rem 0; font-size: 12px; }
h2 { margin-top: 3rem; border-top: 1px solid var(--soft); padding-top: 1rem; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; gap: .75rem; padding: 0; list-style: none; }
.facts li { border: 1px solid var(--soft); border-radius: .4rem; padding: .5rem .9rem; }
.facts strong { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
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

std::string value_of(const Estimate& estimate) {
  return fmt::format("{:.1f}%", 100 * estimate.value);
}

std::string fact(const std::string& value, const std::string& name) {
  return fmt::format("<li><strong>{}</strong>{}</li>\n", value, name);
}

// What is looked for first.
std::string facts_list(const RunReport& report) {
  const Group& all = report.groups.front();
  std::string html = "<ul class=\"facts\">\n";
  for (const auto& [k, estimate] : all.pass_at_k) {
    if (k == 1) html += fact(value_of(estimate), "pass@1");
  }
  for (const auto& [threshold, estimate] : all.fast_p) {
    if (threshold == 1 && estimate) html += fact(value_of(*estimate), "fast_1");
  }
  html += fact(fmt::format("{} of {}", all.num_solved, all.num_problems), "problems solved");
  if (report.tokens_per_correct_sample) {
    html += fact(fmt::format("{:.0f}", *report.tokens_per_correct_sample), "tokens a correct sample");
  }
  return html + "</ul>\n";
}

std::string groups_table(const RunReport& report) {
  // The k of all problems together are those of any group.
  const auto& ks = report.groups.front().pass_at_k;
  std::string html =
      "<div "
      "class=\"wide\"><table><tr><th></th><th>problems</th><th>samples</th><th>correct</th><th>timed</th>"
      "<th>solved</th>";
  for (const auto& [k, estimate] : ks) html += fmt::format("<th>pass@{}</th>", k);
  html += "</tr>\n";
  for (const Group& group : report.groups) {
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
                        html_text(group.name), group.num_problems, group.num_samples, group.num_correct,
                        group.num_timed, group.num_solved);
    for (const auto& [k, unused] : ks) {
      std::string cell = "–";
      for (const auto& [own_k, estimate] : group.pass_at_k) {
        if (own_k == k)
          cell = fmt::format("<span title=\"{}\">{}</span>", percent(estimate), value_of(estimate));
      }
      html += "<td>" + cell + "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</table></div>\n";
}

std::vector<Bar> fast_bars(const RunReport& report) {
  std::vector<Bar> bars;
  for (size_t i = 0; i < report.groups.size(); ++i) {
    const Group& group = report.groups[i];
    for (const auto& [threshold, estimate] : group.fast_p) {
      if (!estimate) continue;
      bars.push_back({fmt::format("{}, fast_{:g}", group.name, threshold), estimate->value,
                      percent(*estimate), estimate->low, estimate->high, i});
    }
  }
  return bars;
}

// Correct ones green, attempts to cheat red, the others blue.
std::vector<Bar> verdict_bars(const RunReport& report) {
  std::vector<Bar> bars;
  for (const auto& [verdict, count] : report.verdicts) {
    const size_t colour_idx = verdict.starts_with("correct") ? 2 : verdict.starts_with("cheating") ? 1 : 0;
    bars.push_back({verdict, static_cast<double>(count), std::to_string(count), 0, 0, colour_idx});
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

// A histogram of tokens, or nothing where none were counted.
std::string token_chart(const std::string& title, std::vector<double> tokens) {
  std::erase(tokens, 0.0);
  return tokens.empty() ? "" : bar_chart(title, logarithmic_histogram(tokens, 2));
}

std::string speedup_chart(const RunReport& report) {
  if (report.speedups.empty()) return "<p class=\"note\">No speedup was measured.</p>\n";
  return bar_chart(
      fmt::format("Speedup of correct samples (geometric mean {:.2f})", geometric_mean(report.speedups)),
      logarithmic_histogram(report.speedups, 1.25));
}

std::string run_section(const RunReport& report) {
  std::string html = fmt::format(
      "<h2>{}</h2>\n<p class=\"note\">{} traces of {} problems, {} with code, {} verified{}. Model: "
      "{}.</p>\n",
      html_text(report.dir), report.num_traces, report.num_problems, report.num_with_code,
      report.num_verified, report.devices.empty() ? "" : " on " + joined(report.devices),
      joined(report.models));
  if (report.num_traces == 0) {
    return html + "<p>The run holds no traces yet: <code>nemoforge trace --run DIR</code> makes them.</p>\n";
  }
  if (report.groups.front().num_samples > 0) {
    html += facts_list(report) + groups_table(report);
    html += "<div class=\"wide\">\n" +
            bar_chart("Correct and faster than the baseline, mean over problems", fast_bars(report), 1);
    if (report.attempts.size() > 1) {
      html += bar_chart("Samples correct by their attempt or an earlier one", attempt_bars(report));
    }
    html += bar_chart("Verdicts", verdict_bars(report)) + speedup_chart(report);
  } else {
    html +=
        "<p>No verdict says anything about a candidate yet: <code>nemoforge verify --run DIR</code> gives "
        "them.</p>\n<div class=\"wide\">\n" +
        bar_chart("Verdicts", verdict_bars(report));
  }
  html += token_chart("Tokens of an answer", report.completion_tokens) +
          token_chart("Tokens of a correct answer", report.correct_completion_tokens) + "</div>\n";
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
    if (!line.points.empty()) lines.push_back(std::move(line));
  }
  html += "<div class=\"wide\">\n" +
          line_chart("pass@k by run, mean over problems with its 95% interval", "k", lines) + "</div>\n";
  for (const RunReport& report : reports) html += run_section(report);
  return html + "</body></html>\n";
}

}  // namespace nemoforge::report
