// The course of a training run as a page for people.
#pragma once

#include <string>

#include "base/result.h"

namespace nemoforge::train {

// Writes the curves of a metrics file (train/metrics.h) as one self-contained HTML page, atomically: loss
// with the held-out loss, gradient norm, learning rate, tokens/s; no scripts, no links. `title` is escaped.
[[nodiscard]] Status write_curves_page(const std::string& metrics_path, const std::string& title,
                                       const std::string& page_path);

}  // namespace nemoforge::train
