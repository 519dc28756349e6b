// What the server adds to the engine: the same chats through the engine alone and over HTTP in turns, in one
// process.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "engine/engine.h"
#include "server/completion_request.h"

namespace nemoforge::bench {

struct ServerOptions {
  size_t num_streams = 64;  // requests at the same time
  int64_t num_requests = 128;
  int64_t input_words = 8;      // of a prompt
  int64_t output_tokens = 200;  // of an answer
  int64_t num_rounds = 5;       // passes of each kind, after one of each that warms up
  uint64_t seed = 0;            // of the prompts
};

// From the choice of a token to its consumer.
struct Latency {
  double p50_ms = 0;
  double p99_ms = 0;
};

// Medians over the rounds; latencies are those of all tokens.
struct ServerResult {
  double engine_tokens_per_s = 0;
  double http_tokens_per_s = 0;
  double http_requests_per_s = 0;
  double ratio = 0;                   // of the rates over HTTP and of the engine alone
  double client_cpu_share = 0;        // of the machine's cores, while the requests go over HTTP
  double added_cpu_us_per_token = 0;  // of the process without its client, over the engine's alone
  Latency engine_latency;             // to a sink in the process
  Latency http_latency;               // to the client
};

// `engine` is the one behind `served`, and should not cache prefixes: every pass then computes the same.
// kCancelled on Ctrl-C.
[[nodiscard]] Result<ServerResult> run_server(engine::Engine& engine, const server::ServedModel& served,
                                              const ServerOptions& options);

}  // namespace nemoforge::bench
