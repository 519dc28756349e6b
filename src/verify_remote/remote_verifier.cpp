#include "verify_remote/remote_verifier.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "base/log.h"
#include "endpoint/endpoint_pool.h"
#include "endpoint/http_client.h"
#include "verify_remote/verify_wire.h"

namespace nemoforge::verify_remote {
namespace {

// Workers that may be lost over one job before the job is given up.
constexpr int kMaxLostWorkers = 3;
// Jobs that one worker gets at a time: more than it has slots wait there, or are turned away with 429.
constexpr int64_t kMaxInFlightEach = 64;
constexpr double kHealthTimeoutS = 10;
// How often an interruption and the clock are looked at.
constexpr double kPollS = 0.1;
// Before a worker that is busy is asked again, where it does not say.
constexpr double kBusyPauseS = 2;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

tl::unexpected<Error> interruption() {
  return error(ErrorCode::kCancelled, "interrupted; run it again to go on");
}

Status pause(double seconds) {
  const double end = now_s() + seconds;
  while (now_s() < end) {
    if (interrupted()) return interruption();
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(kPollS, seconds)));
  }
  return {};
}

Result<endpoint::HttpResponse> exchange(endpoint::HttpClient& client, const endpoint::HttpRequest& request) {
  client.start(0, request);
  while (true) {
    auto responses = client.wait(kPollS);
    if (!responses.empty()) return std::move(responses.front());
    if (interrupted()) return interruption();
  }
}

std::string describe(const endpoint::HttpResponse& response) {
  if (!response.error.empty()) return response.error;
  return "status " + std::to_string(response.status) + ": " + response.body.substr(0, 300);
}

// Refuses this client or does not know what it asks: waiting changes nothing.
bool is_final(int64_t status) {
  return status >= 300 && status < 500 && status != 408 && status != 425 && status != 429;
}

}  // namespace

struct RemoteVerifier::State {
  explicit State(const RemoteVerifierConfig& given)
      : config(given), pool(given.urls.size(), kMaxInFlightEach, {.base_s = 0.5, .max_s = 20}) {}

  RemoteVerifierConfig config;
  std::string device;
  int num_slots = 0;
  std::mutex mutex;  // of the pool
  endpoint::EndpointPool pool;
};

namespace {

class RemoteSession : public verify::BackendSession {
 public:
  RemoteSession(RemoteVerifierConfig& config, const std::string& device, std::mutex& mutex,
                endpoint::EndpointPool& pool)
      : config_(config), device_(device), mutex_(mutex), pool_(pool) {}

  Result<verify::Verification> verify(const std::string& problem, const std::string& candidate,
                                      const io::Json& overrides, bool another_follows) override;

 private:
  Result<size_t> wait_for_worker();

  const RemoteVerifierConfig& config_;
  const std::string& device_;
  std::mutex& mutex_;
  endpoint::EndpointPool& pool_;
  endpoint::HttpClient client_;
  std::string last_failure_;
};

Result<size_t> RemoteSession::wait_for_worker() {
  while (true) {
    {
      const std::scoped_lock lock(mutex_);
      if (const auto worker = pool_.acquire(now_s())) return *worker;
      if (pool_.all_down_for(now_s()) > config_.patience_s) {
        return error(ErrorCode::kUnavailable, "no verification worker answers: " + last_failure_,
                     "start them again and repeat the command: what has a verdict keeps it");
      }
    }
    NF_RETURN_IF_ERROR(pause(kPollS));
  }
}

Result<verify::Verification> RemoteSession::verify(const std::string& problem, const std::string& candidate,
                                                   const io::Json& overrides, bool /*another_follows*/) {
  const int64_t started_ms = verify::wall_clock_ms();
  endpoint::HttpRequest request;
  request.body = verify_job_body({problem, candidate, overrides});
  request.api_key = config_.api_key;
  request.timeout_s = config_.job_timeout_s;
  int num_lost = 0;
  while (num_lost < kMaxLostWorkers) {
    NF_TRY(const size_t worker, wait_for_worker());
    request.url = config_.urls[worker] + "/v1/verify";
    auto response = exchange(client_, request);
    if (!response) {
      const std::scoped_lock lock(mutex_);
      pool_.release(worker);
      return forward_error(std::move(response));
    }
    if (response->error.empty() && response->status == 200) {
      auto verification = parse_verify_answer(response->body, device_);
      const std::scoped_lock lock(mutex_);
      pool_.succeed(worker);
      if (verification) return verification;
      return error(ErrorCode::kInvalidData,
                   request.url + " sent no verdict: " + verification.error().message);
    }
    last_failure_ = request.url + ": " + describe(*response);
    if (response->error.empty() && response->status == 429) {
      // It is there, and busy.
      {
        const std::scoped_lock lock(mutex_);
        pool_.succeed(worker);
      }
      NF_RETURN_IF_ERROR(pause(std::clamp(response->retry_after_s.value_or(kBusyPauseS), kPollS, 30.0)));
      continue;
    }
    const std::scoped_lock lock(mutex_);
    if (response->error.empty() && is_final(response->status)) {
      pool_.succeed(worker);
      return error(response->status == 401 || response->status == 403 ? ErrorCode::kInvalidArgument
                                                                      : ErrorCode::kInvalidData,
                   last_failure_, response->status == 401 ? "give the worker's key" : "");
    }
    spdlog::warn("{}; the job goes on elsewhere", last_failure_);
    pool_.fail(worker, now_s(), response->retry_after_s);
    // One that was reached and then lost may have ended by this job; one that says to come back has not.
    if (response->connected && response->status == 0) ++num_lost;
  }
  return verify::not_verified("backend",
                              std::to_string(num_lost) + " workers were lost over it: " + last_failure_,
                              device_, started_ms);
}

}  // namespace

RemoteVerifier::RemoteVerifier(std::unique_ptr<State> state) : state_(std::move(state)) {}
RemoteVerifier::~RemoteVerifier() = default;

Result<std::unique_ptr<RemoteVerifier>> RemoteVerifier::connect(const RemoteVerifierConfig& config) {
  auto state = std::make_unique<State>(config);
  endpoint::HttpClient client;
  std::string failures;
  for (std::string& url : state->config.urls) {
    while (url.ends_with('/')) url.pop_back();
    endpoint::HttpRequest request;
    request.url = url + "/health";
    request.timeout_s = kHealthTimeoutS;
    NF_TRY(const endpoint::HttpResponse response, exchange(client, request));
    const auto health = io::parse_json(response.body);
    const bool answers = response.error.empty() && response.status == 200 && health && health->is_object() &&
                         health->contains("device") && (*health)["device"].is_string() &&
                         health->contains("slots") && (*health)["slots"].is_number_integer();
    if (!answers) {
      failures += " " + url + ": " + describe(response) + ";";
      continue;
    }
    const auto device = (*health)["device"].get<std::string>();
    if (!state->device.empty() && device != state->device) {
      return error(ErrorCode::kInvalidData, url + " verifies on " + device + ", others on " + state->device,
                   "verify with workers of one kind at a time");
    }
    state->device = device;
    state->num_slots += std::clamp((*health)["slots"].get<int>(), 1, 256);
  }
  if (state->device.empty()) {
    return error(ErrorCode::kUnavailable, "no verification worker answers:" + failures,
                 "start one: nemoforge verify-worker");
  }
  if (!failures.empty()) spdlog::warn("will be tried again:{}", failures);
  return std::unique_ptr<RemoteVerifier>(new RemoteVerifier(std::move(state)));
}

std::string RemoteVerifier::device_name() const {
  return state_->device;
}

int RemoteVerifier::num_sessions() const {
  return state_->config.num_workers > 0 ? state_->config.num_workers : state_->num_slots;
}

std::unique_ptr<verify::BackendSession> RemoteVerifier::open_session() const {
  return std::make_unique<RemoteSession>(state_->config, state_->device, state_->mutex, state_->pool);
}

}  // namespace nemoforge::verify_remote
