// The course of a training run as TensorBoard reads it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace nemoforge::train {

// One record of an events file: tensorflow.Event {wall_time = 1, step = 2, summary = 5 {value = 1 {tag = 1,
// simple_value = 2}}} framed as TFRecord does: length, masked CRC-32C of the length, the event, masked
// CRC-32C of the event.
[[nodiscard]] std::string scalar_event(double wall_time_s, int64_t step, std::string_view tag, float value);

// Writes the scalars of a metrics file (train/metrics.h) as an events file, whole and atomically: the numbers
// of each object under "train/NAME", those of evaluations under "eval/NAME".
[[nodiscard]] Status write_event_file(const std::string& metrics_path, const std::string& events_path);

}  // namespace nemoforge::train
