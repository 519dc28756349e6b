// Load on an OpenAI endpoint, and what its clients see of it.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "base/result.h"

namespace nemoforge::endpoint {

struct ServingLoad {
  std::string url;
  std::string model;
  std::string api_key;
  bool chat = true;  // /v1/chat/completions, else /v1/completions
  int64_t num_prompts = 100;
  int64_t input_words = 128;
  int64_t output_tokens = 128;  // max_tokens
  bool ignore_eos = false;
  double timeout_s = 600;
  uint64_t seed = 0;
  int64_t max_concurrency = 1;  // requests in flight
  // Requests a second, as a Poisson process; infinite: as soon as max_concurrency lets them.
  double request_rate = std::numeric_limits<double>::infinity();
};

// One request as its client saw it; seconds since the load began.
struct ServedRequest {
  double begin_s = 0;
  std::vector<double> chunks_s;  // arrivals of text
  double end_s = 0;
  int64_t input_tokens = 0;  // as the server counts; 0 where it does not say
  int64_t output_tokens = 0;
  std::string error;  // empty: answered in full
};

// The bodies of its requests, in order.
[[nodiscard]] std::vector<std::string> request_bodies(const ServingLoad& load);

// Sends the load; one entry a request, in the order of their beginnings. kUnavailable where none was
// answered, kCancelled on Ctrl-C.
[[nodiscard]] Result<std::vector<ServedRequest>> send_load(const ServingLoad& load);

struct Distribution {
  double mean = 0;
  double median = 0;
  double std = 0;  // of the population
  double p99 = 0;  // linear between ranks
};
[[nodiscard]] Distribution describe(std::vector<double> values);

// As `vllm bench serve` defines them: TTFT from the request to the first text; TPOT the rest of the latency
// over the tokens after the first; ITL between two arrivals of text.
struct ServingReport {
  int64_t completed = 0;
  int64_t failed = 0;
  double duration_s = 0;
  int64_t total_input_tokens = 0;
  int64_t total_output_tokens = 0;
  double max_output_tokens_per_s = 0;   // of any whole second
  int64_t max_concurrent_requests = 0;  // within any whole second
  Distribution ttft_ms, tpot_ms, itl_ms, e2el_ms;
};
[[nodiscard]] ServingReport summarize(const std::vector<ServedRequest>& requests);

}  // namespace nemoforge::endpoint
