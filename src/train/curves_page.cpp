#include "train/curves_page.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"
#include "train/metrics.h"

namespace nemoforge::train {
namespace {

constexpr double kWidth = 640;
constexpr double kHeight = 220;
constexpr double kLeft = 70;
constexpr double kTop = 30;
constexpr size_t kMaxPoints = 2000;

struct Curve {
  std::string label;
  const char* colour;
  std::vector<std::pair<double, double>> points;  // step, value
};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else {
      out += c;
    }
  }
  return out;
}

Curve curve_of(const std::vector<io::Json>& rows, const char* name, const char* label, const char* colour) {
  Curve curve{label, colour, {}};
  for (const io::Json& row : rows) {
    const auto value = row.find(name);
    if (value != row.end() && value->is_number()) {
      curve.points.emplace_back(row.value("step", 0.0), value->get<double>());
    }
  }
  // A long run is drawn by every k-th point.
  const size_t stride = curve.points.size() / kMaxPoints + 1;
  std::vector<std::pair<double, double>> kept;
  for (size_t i = 0; i < curve.points.size(); i += stride) kept.push_back(curve.points[i]);
  curve.points = std::move(kept);
  return curve;
}

std::string plot(const std::string& title, const std::vector<Curve>& curves) {
  double last_step = 1;
  double low = 0;
  double high = 0;
  for (const Curve& curve : curves) {
    for (const auto& [step, value] : curve.points) {
      last_step = std::max(last_step, step);
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  if (high <= low) high = low + 1;
  const auto x = [&](double step) { return kLeft + step / last_step * kWidth; };
  const auto y = [&](double value) { return kTop + (high - value) / (high - low) * kHeight; };
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n<text class=\"title\" x=\"0\" "
      "y=\"18\">{}</text>\n",
      kLeft + kWidth + 20, kTop + kHeight + 30, title, title);
  for (int i = 0; i <= 4; ++i) {
    const double value = low + (high - low) * i / 4;
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text class=\"end\" x=\"{}\" "
        "y=\"{:.1f}\">{:.4g}</text>\n",
        kLeft, kLeft + kWidth, y(value), y(value), kLeft - 6, y(value) + 4, value);
  }
  svg += fmt::format("<text class=\"end\" x=\"{}\" y=\"{}\">step {:g}</text>\n", kLeft + kWidth,
                     kTop + kHeight + 20, last_step);
  double legend_x = kLeft;
  for (const Curve& curve : curves) {
    std::string path;
    for (const auto& [step, value] : curve.points) path += fmt::format("{:.1f},{:.1f} ", x(step), y(value));
    svg +=
        fmt::format("<polyline points=\"{}\" stroke=\"{}\"/><text x=\"{}\" y=\"{}\" fill=\"{}\">{}</text>\n",
                    path, curve.colour, legend_x, kTop + kHeight + 20, curve.colour, curve.label);
    legend_x += 110;
  }
  return svg + "</svg>\n";
}

}  // namespace

Status write_curves_page(const std::string& metrics_path, const std::string& title,
                         const std::string& page_path) {
  NF_TRY(const std::vector<io::Json> rows, read_metrics(metrics_path));
  // Okabe and Ito's palette, told apart by people who see colours differently too.
  const char* const blue = "#0072b2";
  const std::string plots = plot("Loss", {curve_of(rows, "loss", "training", blue),
                                          curve_of(rows, "eval_loss", "held out", "#d55e00")}) +
                            plot("Gradient norm", {curve_of(rows, "grad_norm", "before clipping", blue)}) +
                            plot("Learning rate", {curve_of(rows, "learning_rate", "learning rate", blue)}) +
                            plot("Tokens a second", {curve_of(rows, "tokens_per_s", "tokens/s", blue)});
  return io::write_file_atomically(
      page_path, fmt::format("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                             "style-src 'unsafe-inline'\">\n"
                             "<title>{0}</title>\n<style>\nbody {{ font: 15px system-ui, sans-serif; "
                             "max-width: 760px; margin: 2em auto; }}\n"
                             "svg {{ width: 100%; margin-bottom: 1.5em; }}\ntext {{ font-size: 12px; "
                             "}}\n.title {{ font-size: 15px; font-weight: "
                             "600; }}\n.end {{ text-anchor: end; }}\n.grid {{ stroke: #ddd; }}\npolyline {{ "
                             "fill: none; stroke-width: 1.5; "
                             "}}\n</style>\n</head>\n<body>\n<h1>{0}</h1>\n{1}</body>\n</html>\n",
                             escaped(title), plots));
}

}  // namespace nemoforge::train
