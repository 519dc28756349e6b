// Times of single calls: medians with their confidence, what of a time is the judge's own way to the worker
// and back, and what times say that cannot be.
#pragma once

#include <optional>
#include <vector>

#include "verify/verdict.h"

namespace nemoforge::verify {

// A median and the 95 % interval of its order statistics, which assumes nothing of the distribution.
struct MedianInterval {
  double median = 0;
  double low = 0;
  double high = 0;
};

// Of at least one value.
[[nodiscard]] MedianInterval median_interval(std::vector<double> values);

// Calls of one process on cold caches and fresh inputs. wall_ms is the judge's clock from the command to the
// answer. The others are what the process itself measured on the GPU: event_ms from before the call's work to
// its end on the default stream, settled_ms to the end of all work on all streams.
struct TimedCalls {
  std::vector<double> wall_ms;
  std::vector<double> event_ms;
  std::vector<double> settled_ms;
};

// What calls take beyond their work on the GPU: the way of the messages, the GPU's change from one process to
// another, the start of a call.
[[nodiscard]] double message_ms(const TimedCalls& calls);

// What the problem and the card say about the least time.
struct Floor {
  double bytes = 0;             // that must pass through the card's memory
  double copy_bytes_per_s = 0;  // measured, read and written
  double output_bytes = 0;
};
[[nodiscard]] double floor_ms(const Floor& floor);

struct Timing {
  MedianInterval eager;  // of the reference, by its own process, which is trusted
  std::optional<MedianInterval> compiled;
  MedianInterval kernel_wall;   // of the candidate, by the judge's clock less message_ms
  MedianInterval kernel_event;  // by the candidate's own process
  MedianInterval settled;       // likewise, until all streams were idle
  double message_ms = 0;        // of the candidate's process, measured before the candidate was loaded
  double deliver_ms = 0;        // the judge's time from asking for a timed call's output to having it

  // The time that counts: the process's own, which is the finer one, as long as the judge's clock does not
  // contradict it; else the judge's.
  [[nodiscard]] const MedianInterval& kernel() const;
  // Whether the judge's clock is too unsteady, on a machine that is busy, to confirm or to contradict
  // anything.
  [[nodiscard]] bool is_untrusted() const;
};

// Of what the calls' own processes measured.
[[nodiscard]] MedianInterval event_time(const TimedCalls& calls);
// Of the judge's own times less message_ms.
[[nodiscard]] MedianInterval wall_time(const TimedCalls& calls, double message_ms);

// Median over median; low and high from the ends of both intervals that are furthest apart.
[[nodiscard]] MedianInterval speedup(const MedianInterval& baseline, const MedianInterval& kernel);

// Families (impossible_speed, timer_patch, deferred_work, stream_hide) that the times speak of, in order of
// weight.
[[nodiscard]] std::vector<Finding> doubts_of(const Timing& timing, const Floor& floor);

// Notes on times: timing_untrusted, launch_bound, review.
[[nodiscard]] std::vector<std::string> tags_of(const Timing& timing);

}  // namespace nemoforge::verify
