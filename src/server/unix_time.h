// The clock of `created` in answers.
#pragma once

#include <chrono>
#include <cstdint>

namespace nemoforge::server {

// Seconds since 1970.
[[nodiscard]] inline int64_t unix_time_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

}  // namespace nemoforge::server
