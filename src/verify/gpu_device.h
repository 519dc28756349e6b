// One GPU of this machine as all verifying threads share it.
#pragma once

#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "verify/gpu_probe.h"
#include "verify/gpu_turns.h"
#include "verify/timing_statistics.h"

namespace nemoforge::verify {

// The reference's own times for one problem.
struct Baselines {
  TimedCalls eager;
  std::optional<TimedCalls> compiled;
  std::string compile_failure;  // why torch.compile has no time
};

struct GpuDevice {
  explicit GpuDevice(GpuInfo found) : info(std::move(found)) {}

  GpuInfo info;
  GpuTurns turns;
  // The least way of messages that was measured so far; read and written by whoever is alone.
  double least_message_ms = std::numeric_limits<double>::infinity();
  // By problem and overrides; measured by whoever needs one first.
  std::mutex mutex;
  std::map<std::string, Baselines> baselines;
};

}  // namespace nemoforge::verify
