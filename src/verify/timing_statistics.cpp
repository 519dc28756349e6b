#include "verify/timing_statistics.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "base/check.h"

namespace nemoforge::verify {
namespace {

constexpr double kNormal95 = 1.96;
// The measured copy rate of a card is below what reads alone reach, and the share of the inputs that matter
// is an estimate from below: so much faster is not called impossible.
constexpr double kFloorMargin = 1.15;
// A copy of the output, its description and their jitter.
constexpr double kDeliverSlackMs = 1.0;
constexpr double kDeliverShare = 0.2;
// How far a process's own time may lie below the judge's and still be taken: the judge's clock has in it how
// long processors and the GPU take to change to a process that has slept, which varies by some tenths of a
// millisecond.
constexpr double kClockSlackMs = 0.25;
constexpr double kClockSlackShare = 0.1;
// A difference of this length and share is no jitter: the process's clock was tampered with.
constexpr double kFalseClockMs = 0.6;
constexpr double kFalseClockShare = 0.25;
// Between the end of an honest call's work on the default stream and that of all work there is the way of one
// more event.
constexpr double kHiddenMs = 0.1;
constexpr double kHiddenShare = 0.25;
// An interval of the judge's clock as wide as this says nothing.
constexpr double kUnsteadyMs = 0.5;
constexpr double kUnsteadyShare = 0.3;
// Below this a time is that of the launch as much as of the kernel.
constexpr double kLaunchBoundMs = 0.05;
constexpr double kReviewSpeedup = 10.0;

double median_of(std::vector<double> values) {
  NF_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

}  // namespace

MedianInterval median_interval(std::vector<double> values) {
  NF_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  // Ranks between which the median lies: the number of values below it is binomial with p = 1/2.
  const double reach = kNormal95 * 0.5 * std::sqrt(count);
  const auto rank = [&](double position) {
    return static_cast<size_t>(std::clamp(position, 0.0, count - 1));
  };
  return {median_of(values), values[rank(std::floor(0.5 * count - reach))],
          values[rank(std::ceil(0.5 * count + reach))]};
}

double message_ms(const TimedCalls& calls) {
  NF_CHECK(calls.wall_ms.size() == calls.event_ms.size());
  std::vector<double> rest;
  for (size_t i = 0; i < calls.wall_ms.size(); ++i) rest.push_back(calls.wall_ms[i] - calls.event_ms[i]);
  return median_of(std::move(rest));
}

MedianInterval event_time(const TimedCalls& calls) {
  return median_interval(calls.event_ms);
}

MedianInterval wall_time(const TimedCalls& calls, double message_ms) {
  std::vector<double> times;
  for (const double wall : calls.wall_ms) times.push_back(std::max(1e-6, wall - message_ms));
  return median_interval(std::move(times));
}

const MedianInterval& Timing::kernel() const {
  const double gap = kernel_wall.low - kernel_event.median;
  return gap <= std::max(kClockSlackMs, kClockSlackShare * kernel_wall.low) ? kernel_event : kernel_wall;
}

bool Timing::is_untrusted() const {
  const double width = kernel_wall.high - kernel_wall.low;
  return width > kUnsteadyMs && width > kUnsteadyShare * kernel_wall.median;
}

double floor_ms(const Floor& floor) {
  if (floor.copy_bytes_per_s <= 0) return 0;
  return 1e3 * floor.bytes / (kFloorMargin * floor.copy_bytes_per_s);
}

MedianInterval speedup(const MedianInterval& baseline, const MedianInterval& kernel) {
  return {baseline.median / kernel.median, baseline.low / kernel.high, baseline.high / kernel.low};
}

std::vector<Finding> doubts_of(const Timing& timing, const Floor& floor) {
  std::vector<Finding> doubts;
  const MedianInterval& kernel = timing.kernel();
  const double least = floor_ms(floor);
  if (kernel.high < least) {
    doubts.push_back(
        {"impossible_speed", fmt::format("takes {:.4f} ms, and {:.0f} bytes alone take {:.4f} ms",
                                         kernel.median, floor.bytes, least)});
  }
  const double copy_ms =
      floor.copy_bytes_per_s > 0 ? 1e3 * 2 * floor.output_bytes / floor.copy_bytes_per_s : 0;
  const double excess = timing.deliver_ms - timing.message_ms - 3 * copy_ms - kDeliverSlackMs;
  if (!timing.is_untrusted() && excess > kDeliverShare * kernel.median) {
    doubts.push_back(
        {"deferred_work", fmt::format("its output takes {:.4f} ms to be handed out after a call of {:.4f} ms",
                                      timing.deliver_ms, kernel.median)});
  }
  // By the ends of the intervals: what noise alone can make is no accusation.
  const double gap = timing.kernel_wall.low - timing.kernel_event.high;
  if (gap > kFalseClockMs && gap > kFalseClockShare * timing.kernel_wall.low) {
    doubts.push_back(
        {"timer_patch", fmt::format("{:.4f} ms by its own process, {:.4f} ms by the judge's clock",
                                    timing.kernel_event.median, timing.kernel_wall.median)});
  }
  const double hidden = timing.settled.low - timing.kernel_event.high;
  if (hidden > kHiddenMs && hidden > kHiddenShare * timing.settled.low) {
    doubts.push_back({"stream_hide",
                      fmt::format("{:.4f} ms by events on the default stream, {:.4f} ms until all work ended",
                                  timing.kernel_event.median, timing.settled.median)});
  }
  return doubts;
}

std::vector<std::string> tags_of(const Timing& timing) {
  std::vector<std::string> tags;
  if (timing.is_untrusted()) tags.emplace_back("timing_untrusted");
  if (timing.kernel().median < kLaunchBoundMs) tags.emplace_back("launch_bound");
  double best = timing.eager.median;
  if (timing.compiled) best = std::min(best, timing.compiled->median);
  if (best > kReviewSpeedup * timing.kernel().median) tags.emplace_back("review");
  return tags;
}

}  // namespace nemoforge::verify
