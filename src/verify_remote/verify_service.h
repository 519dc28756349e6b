// The service behind `nemoforge verify-worker`: a short queue, and one thread and backend session a slot.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "server/access.h"
#include "server/http_exchange.h"
#include "verify/backend.h"
#include "verify_remote/verify_wire.h"

namespace nemoforge::verify_remote {

struct VerifyServiceConfig {
  std::vector<std::string> api_keys;  // none: everyone may ask
  size_t max_queue = 8;               // jobs that wait; more are answered with 429
  std::string version;
};

class VerifyService {
 public:
  // Starts backend.num_sessions() threads. The backend must outlive the service.
  VerifyService(VerifyServiceConfig config, const verify::Backend& backend);
  ~VerifyService();
  VerifyService(const VerifyService&) = delete;
  VerifyService& operator=(const VerifyService&) = delete;

  // Answers one request; from any thread, does not block.
  void handle(server::HttpRequest&& request, const std::shared_ptr<server::Exchange>& exchange);

  // No new jobs; those that wait are answered with 503, for another worker to take. Returns when those that
  // run have been answered.
  void drain();

 private:
  struct Waiting {
    VerifyJob job;
    std::shared_ptr<server::Exchange> exchange;
    std::shared_ptr<std::atomic<bool>> client_is_gone;
  };
  void accept(const std::string& body, const std::shared_ptr<server::Exchange>& exchange);
  void serve_slot();
  [[nodiscard]] std::string health();

  VerifyServiceConfig config_;
  const verify::Backend* backend_;
  server::ApiKeys keys_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> queue_;
  int num_running_ = 0;
  int64_t num_verdicts_ = 0;
  bool draining_ = false;
  std::vector<std::thread> slots_;
};

}  // namespace nemoforge::verify_remote
