// The API: routes, access, admission, and the log of answers.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/completion_request.h"
#include "server/http_exchange.h"

namespace nemoforge::server {

struct ApiConfig {
  std::string version;
  std::vector<std::string> api_keys;      // empty: everyone may ask
  std::vector<std::string> cors_origins;  // "*": every one; empty: no headers for browsers
  int64_t max_queue = 1024;               // completions beyond max_num_seqs that may wait; more get 429
  bool allow_lora_updates = false;        // /v1/load_lora_adapter, /v1/unload_lora_adapter
  bool access_log = true;                 // a JSON line an answer, on standard error
  int num_threads = 2;                    // that parse, render and tokenise
};

class Api {
 public:
  Api(const ApiConfig& config, const ServedModel& served, engine::Engine& engine);
  // After stop() of the transport and of the engine.
  ~Api();
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  // The transport's handler.
  void handle(HttpRequest&& request, const std::shared_ptr<Exchange>& exchange);

  // Refuses new completions with 503, and returns when those it has are answered, or at the deadline: false.
  bool drain(std::chrono::steady_clock::time_point deadline);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace nemoforge::server
