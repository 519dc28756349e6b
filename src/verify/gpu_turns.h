// Who may use one GPU now: several processes that compute, or one alone that is timed.
#pragma once

#include <condition_variable>
#include <mutex>

namespace nemoforge::verify {

class GpuTurns {
 public:
  // Held while it lives. Movable, so that functions can return it.
  class Turn {
   public:
    Turn(GpuTurns* turns, bool alone) : turns_(turns), alone_(alone) {}
    Turn(Turn&& other) noexcept : turns_(other.turns_), alone_(other.alone_) { other.turns_ = nullptr; }
    Turn& operator=(Turn&&) = delete;
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
      if (turns_ != nullptr) turns_->end(alone_);
    }

   private:
    GpuTurns* turns_;
    bool alone_;
  };

  // Waits while another one is alone, or waits to be: those who want to be alone go first.
  [[nodiscard]] Turn share();
  [[nodiscard]] Turn alone();

 private:
  void end(bool alone);

  std::mutex mutex_;
  std::condition_variable changed_;
  int num_sharing_ = 0;
  int num_waiting_alone_ = 0;
  bool is_alone_ = false;
};

}  // namespace nemoforge::verify
