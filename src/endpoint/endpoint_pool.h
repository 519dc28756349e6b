// Which of several endpoints gets the next request, and how long one that failed is left alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/rng.h"

namespace nemoforge::endpoint {

// After its n-th failure in a row an endpoint rests for base_s * 2^(n-1), at most max_s, of which a random
// half is taken off so that clients do not come back together.
struct Backoff {
  double base_s = 0.5;
  double max_s = 60;
};

// Bookkeeping only; times are in seconds of any one clock. An endpoint that has failed gets one request at a
// time, after its rest, until one succeeds.
class EndpointPool {
 public:
  EndpointPool(size_t num_endpoints, int64_t max_in_flight_each, Backoff backoff);

  // The endpoint with the fewest requests in flight that may have one more, which then counts as in flight.
  [[nodiscard]] std::optional<size_t> acquire(double now_s);
  // The request was answered, well or badly: the endpoint is there.
  void succeed(size_t endpoint_idx);
  // No answer, or one that says to come back later, at the earliest after `retry_after_s`.
  void fail(size_t endpoint_idx, double now_s, std::optional<double> retry_after_s = std::nullopt);

  // The request was never sent.
  void release(size_t endpoint_idx) { --endpoints_[endpoint_idx].num_in_flight; }

  // Seconds until a resting endpoint may be tried again; nothing where none rests.
  [[nodiscard]] std::optional<double> next_trial_in(double now_s) const;
  // Seconds for which every endpoint has been failing.
  [[nodiscard]] double all_down_for(double now_s) const {
    return all_down_since_s_ ? now_s - *all_down_since_s_ : 0;
  }

 private:
  struct Endpoint {
    int64_t num_in_flight = 0;
    int num_failures = 0;  // in a row
    double rests_until_s = 0;
    uint64_t last_use = 0;
  };
  std::vector<Endpoint> endpoints_;
  int64_t max_in_flight_each_;
  Backoff backoff_;
  std::optional<double> all_down_since_s_;
  uint64_t num_uses_ = 0;
  Rng rng_;
};

}  // namespace nemoforge::endpoint
