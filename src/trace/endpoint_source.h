// Answers from one or several OpenAI endpoints.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "endpoint/endpoint_pool.h"
#include "trace/trace_source.h"

namespace nemoforge::trace {

struct EndpointConfig {
  std::vector<std::string> urls;  // "http://host:8000" or with a path that /chat/completions follows
  std::string model;              // empty: the first one that an endpoint lists
  std::string api_key;
  int64_t max_in_flight_each = 16;
  double timeout_s = 3600;  // of one answer
  int max_attempts = 6;     // answers that went wrong at the server, of one request
  // How long no endpoint may answer before the run is given up.
  double give_up_after_s = 600;
  endpoint::Backoff backoff;
};

// Balances the load, tries again with growing pauses, and lets endpoints leave and return. A refused request
// (a bad one, or one too long) is given up alone; a refused client (no key, no such model) ends the run.
class EndpointSource : public TraceSource {
 public:
  // Asks for the model's name where the config has none. kInvalidArgument for a URL that is not http or
  // https; kUnavailable where no endpoint answers within give_up_after_s; kCancelled once stopped() is true.
  [[nodiscard]] static Result<EndpointSource> connect(EndpointConfig config, SamplingSettings settings,
                                                      const std::function<bool()>& stopped);
  EndpointSource(EndpointSource&&) noexcept;
  ~EndpointSource() override;

  [[nodiscard]] const SourceIdentity& identity() const override;
  [[nodiscard]] Status run(const SourceCallbacks& callbacks) override;

 private:
  struct State;
  explicit EndpointSource(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The base URL of the API: a URL without a path gets /v1, a slash or /chat/completions at the end is dropped.
[[nodiscard]] Result<std::string> api_base_url(const std::string& url);

}  // namespace nemoforge::trace
