// /metrics: what the engine and the server count, in Prometheus' text format.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "engine/engine_stats.h"

namespace nemoforge::server {

// Counts of answers. From any thread.
class HttpMetrics {
 public:
  void count(const std::string& path, int status);
  [[nodiscard]] std::map<std::pair<std::string, int>, int64_t> counts() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> counts_;
};

// The text. vLLM's names, verbatim, where the meaning is the same, so that its dashboards and load tools
// work; `nemoforge:` for the rest. `path` of HttpMetrics are the API's own routes.
[[nodiscard]] std::string metrics_text(const engine::EngineStats& stats, const HttpMetrics& http,
                                       const std::string& model_name);

}  // namespace nemoforge::server
