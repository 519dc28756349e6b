// A client that costs little, to measure servers with: streams over keep-alive connections, events counted
// and not parsed.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace nemoforge::endpoint {

struct StreamedAnswer {
  std::vector<std::chrono::steady_clock::time_point> arrivals;  // of each event's first byte, [DONE] left out
};

// Posts `bodies` to http://127.0.0.1:`port``path` on `num_connections` connections, each of which sends the
// next body as soon as its answer is complete; `request_id` i goes along as X-Request-Id. Blocks, on the
// calling thread alone, and returns the answers in the order of the bodies. kIo or kUnavailable where an
// answer is not a complete stream of events.
[[nodiscard]] Result<std::vector<StreamedAnswer>> stream_all(uint16_t port, const std::string& path,
                                                             const std::vector<std::string>& bodies,
                                                             size_t num_connections);

}  // namespace nemoforge::endpoint
