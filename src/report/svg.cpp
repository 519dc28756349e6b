#include "report/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "report/plain_text.h"

namespace nemoforge::report {
namespace {

constexpr int kWidth = 720;
constexpr int kLabelWidth = 220;
constexpr int kValueWidth = 170;
constexpr int kAxisWidth = 50;
constexpr int kLegendRowHeight = 20;
constexpr int kRowHeight = 22;
constexpr int kTitleHeight = 30;
constexpr int kPlotHeight = 260;
constexpr int kMaxHistogramBars = 24;
constexpr size_t kMaxLabel = 30;  // of the widest letters that names have, in kLabelWidth
constexpr size_t kMaxLegendLabel = 90;
// Told apart by people who see colours differently too (Okabe and Ito's palette, without yellow).
constexpr std::array<const char*, 7> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                 "#56b4e9", "#e69f00", "#7f7f7f"};

std::string begin_svg(const std::string& title, int height) {
  return fmt::format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n<text class=\"title\" x=\"0\" y=\"18\">{}"
      "</text>\n",
      kWidth, height, html_text(title), html_text(title));
}

// Three digits or more, never an exponent.
std::string three_digits(double value) {
  return value < 100 ? fmt::format("{:.3g}", value) : fmt::format("{:.0f}", value);
}

// Where shares and logarithms of x lie in a line chart.
struct Plane {
  double log_min;
  double log_max;
  [[nodiscard]] double x(double value) const {
    constexpr double kInset = 20;
    constexpr double kSpan = kWidth - kAxisWidth - 2 * kInset;
    if (log_max <= log_min) return kAxisWidth + kInset + kSpan / 2;
    return kAxisWidth + kInset + (std::log(value) - log_min) / (log_max - log_min) * kSpan;
  }
  [[nodiscard]] static double y(double share) { return kTitleHeight + 10 + (1 - share) * kPlotHeight; }
};

std::string axes(const Plane& plane, const std::set<double>& xs, const std::string& x_label) {
  std::string svg;
  for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text class=\"end\" x=\"{}\" "
        "y=\"{:.1f}\">{:.0f}%</text>\n",
        kAxisWidth, kWidth, Plane::y(share), Plane::y(share), kAxisWidth - 6, Plane::y(share) + 4,
        100 * share);
  }
  for (const double x : xs) {
    svg += fmt::format("<text class=\"middle\" x=\"{:.1f}\" y=\"{:.1f}\">{} = {:g}</text>\n", plane.x(x),
                       Plane::y(0) + 18, html_text(x_label), x);
  }
  return svg;
}

std::string line_svg(const Plane& plane, const Line& line, size_t line_idx) {
  const char* colour = kColours[line_idx % kColours.size()];
  std::string upper;
  std::string lower;
  std::string path;
  std::string dots;
  for (const auto& [x, estimate] : line.points) {
    upper += fmt::format("{:.1f},{:.1f} ", plane.x(x), Plane::y(estimate.high));
    lower = fmt::format("{:.1f},{:.1f} ", plane.x(x), Plane::y(estimate.low)) + lower;
    path += fmt::format("{:.1f},{:.1f} ", plane.x(x), Plane::y(estimate.value));
    dots += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\"/><circle "
        "cx=\"{0:.1f}\" "
        "cy=\"{4:.1f}\" r=\"4\" fill=\"{3}\"><title>{5:g}: {6:.1f}% [{7:.1f}, {8:.1f}]</title></circle>",
        plane.x(x), Plane::y(estimate.low), Plane::y(estimate.high), colour, Plane::y(estimate.value), x,
        100 * estimate.value, 100 * estimate.low, 100 * estimate.high);
  }
  return fmt::format(
      "<polygon points=\"{}{}\" fill=\"{}\" opacity=\"0.15\"/><polyline points=\"{}\" fill=\"none\" "
      "stroke=\"{}\" stroke-width=\"2\"/>{}\n",
      upper, lower, colour, path, colour, dots);
}

std::string legend_svg(const std::vector<Line>& lines) {
  std::string svg;
  double y = Plane::y(0) + 44;
  for (size_t i = 0; i < lines.size(); ++i, y += kLegendRowHeight) {
    svg += fmt::format(
        "<rect x=\"{}\" y=\"{:.1f}\" width=\"14\" height=\"4\" fill=\"{}\"/><text x=\"{}\" "
        "y=\"{:.1f}\">{}</text>\n",
        kAxisWidth, y - 6, kColours[i % kColours.size()], kAxisWidth + 22, y,
        html_text(lines[i].label, kMaxLegendLabel));
  }
  return svg;
}

}  // namespace

std::string bar_chart(const std::string& title, const std::vector<Bar>& bars, double largest) {
  for (const Bar& bar : bars) largest = std::max({largest, bar.value, bar.high});
  if (largest <= 0) largest = 1;
  const double scale = (kWidth - kLabelWidth - kValueWidth) / largest;
  std::string svg = begin_svg(title, kTitleHeight + static_cast<int>(bars.size()) * kRowHeight + 6);
  double y = kTitleHeight;
  for (const Bar& bar : bars) {
    svg += fmt::format(
        "<text class=\"end\" x=\"{}\" y=\"{:.1f}\">{}<title>{}</title></text><rect x=\"{}\" y=\"{:.1f}\" "
        "width=\"{:.1f}\" height=\"15\" fill=\"{}\"/>",
        kLabelWidth - 8, y + 12, html_text(bar.label, kMaxLabel), html_text(bar.label), kLabelWidth, y,
        bar.value * scale, kColours[bar.colour_idx % kColours.size()]);
    if (bar.low < bar.high) {
      svg += fmt::format("<line class=\"interval\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>",
                         kLabelWidth + bar.low * scale, kLabelWidth + bar.high * scale, y + 7.5, y + 7.5);
    }
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
                       kLabelWidth + std::max(bar.value, bar.high) * scale + 8, y + 12,
                       html_text(bar.value_text));
    y += kRowHeight;
  }
  return svg + "</svg>\n";
}

std::string line_chart(const std::string& title, const std::string& x_label, const std::vector<Line>& lines) {
  std::set<double> xs;
  for (const Line& line : lines) {
    for (const auto& [x, estimate] : line.points) xs.insert(x);
  }
  if (xs.empty()) return {};
  const Plane plane{std::log(*xs.begin()), std::log(*xs.rbegin())};
  const int height = kTitleHeight + kPlotHeight + 44 + kLegendRowHeight * static_cast<int>(lines.size());
  std::string svg = begin_svg(title, height) + axes(plane, xs, x_label);
  for (size_t i = 0; i < lines.size(); ++i) svg += line_svg(plane, lines[i], i);
  return svg + legend_svg(lines) + "</svg>\n";
}

std::vector<Bar> logarithmic_histogram(const std::vector<double>& sorted, double step) {
  if (sorted.empty()) return {};
  const auto bin_of = [step](double value) {
    return static_cast<int>(std::floor(std::log(value) / std::log(step) + 1e-9));
  };
  const int last = bin_of(sorted.back());
  const int first = std::max(bin_of(sorted.front()), last - kMaxHistogramBars + 1);
  std::vector<Bar> bars(static_cast<size_t>(last - first + 1));
  for (size_t i = 0; i < bars.size(); ++i) {
    const int bin = first + static_cast<int>(i);
    bars[i].label = three_digits(std::pow(step, bin)) + " to " + three_digits(std::pow(step, bin + 1));
  }
  for (const double value : sorted)
    bars[static_cast<size_t>(std::max(bin_of(value), first) - first)].value += 1;
  for (Bar& bar : bars) bar.value_text = fmt::format("{:g}", bar.value);
  return bars;
}

}  // namespace nemoforge::report
