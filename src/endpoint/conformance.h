// Whether an OpenAI endpoint does what the rest of nemoforge relies on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nemoforge::endpoint {

struct ConformanceConfig {
  std::string url;    // with or without /v1
  std::string model;  // empty: the first one listed
  std::string api_key;
  double timeout_s = 120;    // of one answer
  int64_t max_tokens = 512;  // of one answer, reasoning included
};

struct ConformanceCheck {
  std::string name;
  bool passed = false;
  std::string detail;  // a remark, or what is wrong
  double ms = 0;
};

struct ConformanceReport {
  std::string url;    // without /v1
  std::string model;  // that was asked; empty where none was named or listed
  std::vector<ConformanceCheck> checks;

  [[nodiscard]] int64_t num_failed() const;
};

// Asks the endpoint one check after the other: health, models, chats whole and streamed with thinking on and
// off, tools, a thinking budget, logprobs, completions, and how it refuses. Blocks.
[[nodiscard]] ConformanceReport check_conformance(const ConformanceConfig& config);

}  // namespace nemoforge::endpoint
