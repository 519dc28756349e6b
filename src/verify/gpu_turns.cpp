#include "verify/gpu_turns.h"

namespace nemoforge::verify {

GpuTurns::Turn GpuTurns::share() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !is_alone_ && num_waiting_alone_ == 0; });
  ++num_sharing_;
  return {this, false};
}

GpuTurns::Turn GpuTurns::alone() {
  std::unique_lock lock(mutex_);
  ++num_waiting_alone_;
  changed_.wait(lock, [&] { return !is_alone_ && num_sharing_ == 0; });
  --num_waiting_alone_;
  is_alone_ = true;
  return {this, true};
}

void GpuTurns::end(bool alone) {
  {
    const std::scoped_lock lock(mutex_);
    if (alone) {
      is_alone_ = false;
    } else {
      --num_sharing_;
    }
  }
  changed_.notify_all();
}

}  // namespace nemoforge::verify
