#include "verify_remote/verify_service.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "server/api_error.h"

namespace nemoforge::verify_remote {
namespace {

constexpr int kRetryAfterSeconds = 2;

// With Retry-After where another try may help.
server::HttpResponse refusal(int status, const std::string& message) {
  server::HttpResponse response = server::error_response({.status = status, .message = message, .param = {}});
  if (status == 429 || status == 503) {
    std::erase_if(response.headers, [](const auto& header) { return header.first == "Retry-After"; });
    response.headers.emplace_back("Retry-After", std::to_string(kRetryAfterSeconds));
  }
  return response;
}

}  // namespace

VerifyService::VerifyService(VerifyServiceConfig config, const verify::Backend& backend)
    : config_(std::move(config)), backend_(&backend), keys_(config_.api_keys) {
  for (int i = 0; i < backend.num_sessions(); ++i) slots_.emplace_back([this] { serve_slot(); });
}

VerifyService::~VerifyService() {
  drain();
}

void VerifyService::handle(server::HttpRequest&& request, const std::shared_ptr<server::Exchange>& exchange) {
  if (request.refusal) return exchange->respond(refusal(request.refusal->status, request.refusal->message));
  if (request.path == "/health") {
    if (request.method != "GET") return exchange->respond(refusal(405, "/health is asked with GET"));
    server::HttpResponse response;
    response.body = health();
    return exchange->respond(std::move(response));
  }
  if (!keys_.admit(request.authorization)) {
    return exchange->respond(refusal(401, "a valid API key is needed (Authorization: Bearer KEY)"));
  }
  if (request.path != "/v1/verify") {
    return exchange->respond(refusal(404, "there is no such path; jobs go to /v1/verify"));
  }
  if (request.method != "POST") return exchange->respond(refusal(405, "/v1/verify is asked with POST"));
  accept(request.body, exchange);
}

void VerifyService::accept(const std::string& body, const std::shared_ptr<server::Exchange>& exchange) {
  auto job = parse_verify_job(body);
  if (!job) return exchange->respond(refusal(400, job.error().message));
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  int refused = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (draining_) {
      refused = 503;
    } else if (queue_.size() >= config_.max_queue) {
      refused = 429;
    } else {
      queue_.push_back({std::move(*job), exchange, gone});
    }
  }
  if (refused == 503) return exchange->respond(refusal(503, "this worker is shutting down"));
  if (refused == 429) return exchange->respond(refusal(429, "as many jobs wait as may wait here"));
  exchange->on_disconnect([gone] { *gone = true; });
  changed_.notify_one();
}

// Sessions belong to the thread that opens them.
void VerifyService::serve_slot() {
  const std::unique_ptr<verify::BackendSession> session = backend_->open_session();
  while (true) {
    Waiting next;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return draining_ || !queue_.empty(); });
      if (queue_.empty()) return;
      next = std::move(queue_.front());
      queue_.pop_front();
      if (*next.client_is_gone) continue;
      ++num_running_;
    }
    auto verification = session->verify(next.job.problem, next.job.candidate, next.job.overrides, true);
    server::HttpResponse response;
    if (verification) {
      response.body = verify_answer_body(*verification);
    } else {
      spdlog::error("nothing could be verified: {}", verification.error().to_string());
      response = refusal(503, verification.error().to_string());
    }
    {
      const std::scoped_lock lock(mutex_);
      --num_running_;
      num_verdicts_ += verification ? 1 : 0;
    }
    next.exchange->respond(std::move(response));
  }
}

std::string VerifyService::health() {
  const std::scoped_lock lock(mutex_);
  return io::dump_json({{"status", draining_ ? "draining" : "ok"},
                        {"device", backend_->device_name()},
                        {"version", config_.version},
                        {"slots", slots_.size()},
                        {"running", num_running_},
                        {"waiting", queue_.size()},
                        {"verdicts", num_verdicts_}});
}

void VerifyService::drain() {
  std::deque<Waiting> turned_away;
  {
    const std::scoped_lock lock(mutex_);
    draining_ = true;
    turned_away.swap(queue_);
  }
  changed_.notify_all();
  for (Waiting& job : turned_away) job.exchange->respond(refusal(503, "this worker is shutting down"));
  for (std::thread& slot : slots_) {
    if (slot.joinable()) slot.join();
  }
}

}  // namespace nemoforge::verify_remote
