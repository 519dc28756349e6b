#include "endpoint/endpoint_pool.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace nemoforge::endpoint {

EndpointPool::EndpointPool(size_t num_endpoints, int64_t max_in_flight_each, Backoff backoff)
    : endpoints_(num_endpoints),
      max_in_flight_each_(max_in_flight_each),
      backoff_(backoff),
      rng_(secret_seed()) {}

std::optional<size_t> EndpointPool::acquire(double now_s) {
  std::optional<size_t> best;
  for (size_t idx = 0; idx < endpoints_.size(); ++idx) {
    const Endpoint& endpoint = endpoints_[idx];
    const int64_t limit = endpoint.num_failures > 0 ? 1 : max_in_flight_each_;
    if (endpoint.num_in_flight >= limit || endpoint.rests_until_s > now_s) continue;
    const auto load = [](const Endpoint& e) { return std::tie(e.num_in_flight, e.last_use); };
    if (!best || load(endpoint) < load(endpoints_[*best])) best = idx;
  }
  if (best) {
    ++endpoints_[*best].num_in_flight;
    endpoints_[*best].last_use = ++num_uses_;
  }
  return best;
}

void EndpointPool::succeed(size_t endpoint_idx) {
  Endpoint& endpoint = endpoints_[endpoint_idx];
  --endpoint.num_in_flight;
  endpoint.num_failures = 0;
  endpoint.rests_until_s = 0;
  all_down_since_s_.reset();
}

void EndpointPool::fail(size_t endpoint_idx, double now_s, std::optional<double> retry_after_s) {
  Endpoint& endpoint = endpoints_[endpoint_idx];
  --endpoint.num_in_flight;
  // Requests that were in flight together fail together: that is one failure.
  if (endpoint.rests_until_s > now_s) return;
  ++endpoint.num_failures;
  const double full_s =
      std::min(backoff_.max_s, backoff_.base_s * std::exp2(std::min(endpoint.num_failures - 1, 30)));
  const double rest_s = std::max(full_s * (1 - 0.5 * rng_.uniform()), retry_after_s.value_or(0));
  endpoint.rests_until_s = now_s + rest_s;
  const bool all_fail =
      std::all_of(endpoints_.begin(), endpoints_.end(), [](const Endpoint& e) { return e.num_failures > 0; });
  if (all_fail && !all_down_since_s_) all_down_since_s_ = now_s;
}

std::optional<double> EndpointPool::next_trial_in(double now_s) const {
  std::optional<double> soonest_s;
  for (const Endpoint& endpoint : endpoints_) {
    if (endpoint.num_failures == 0) continue;
    const double wait_s = std::max(endpoint.rests_until_s - now_s, 0.0);
    soonest_s = std::min(soonest_s.value_or(wait_s), wait_s);
  }
  return soonest_s;
}

}  // namespace nemoforge::endpoint
