// The learning rate by step.
#pragma once

#include <cstdint>

namespace nemoforge::train {

enum class Decay { kConstant, kLinear, kCosine };

struct Schedule {
  double learning_rate = 1e-4;  // at the end of the warm-up
  Decay decay = Decay::kCosine;
  int64_t num_warmup_steps = 0;
  int64_t num_steps = 1;      // of the run
  double final_fraction = 0;  // of the learning rate that the decay ends at

  // Of step `step`, from 0: (step + 1) / (num_warmup_steps + 1) of the rate while it warms up; then from the
  // whole rate along a half cosine or a line, which reaches final_fraction one step after the last.
  [[nodiscard]] double rate(int64_t step) const;
};

}  // namespace nemoforge::train
