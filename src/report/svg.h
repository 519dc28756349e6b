// The plots of the HTML report, as inline SVG: no scripts, no fonts, no links. Texts are escaped here.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "report/statistics.h"

namespace nemoforge::report {

struct Bar {
  std::string label;
  double value = 0;        // 0 or more
  std::string value_text;  // written beside the bar
  double low = 0;          // the interval's ends; no interval where low == high
  double high = 0;
  size_t colour_idx = 0;  // bars of one number have one colour
};

// Horizontal bars one under the other, from 0 to `largest` (0: the largest value). Labels are cut to what
// fits beside the bars, with the whole text where the pointer rests.
[[nodiscard]] std::string bar_chart(const std::string& title, const std::vector<Bar>& bars,
                                    double largest = 0);

struct Line {
  std::string label;
  std::vector<std::pair<double, Estimate>> points;  // x > 0 ascending
};

// Shares (0 to 1) over a logarithmic x, each line with the band of its intervals, named in a legend below.
[[nodiscard]] std::string line_chart(const std::string& title, const std::string& x_label,
                                     const std::vector<Line>& lines);

// Bars with the counts of `sorted` (ascending, positive): a bar for each factor of `step`, at most 24 bars,
// the first taking what lies below.
[[nodiscard]] std::vector<Bar> logarithmic_histogram(const std::vector<double>& sorted, double step);

}  // namespace nemoforge::report
