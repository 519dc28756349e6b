#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nemoforge::train {

double Schedule::rate(int64_t step) const {
  if (step < num_warmup_steps) {
    return learning_rate * static_cast<double>(step + 1) / static_cast<double>(num_warmup_steps + 1);
  }
  if (decay == Decay::kConstant) return learning_rate;
  const auto num_decay_steps = static_cast<double>(std::max<int64_t>(1, num_steps - num_warmup_steps));
  const double done = std::min(1.0, static_cast<double>(step - num_warmup_steps) / num_decay_steps);
  const double share = decay == Decay::kLinear ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done));
  return learning_rate * (final_fraction + (1 - final_fraction) * share);
}

}  // namespace nemoforge::train
