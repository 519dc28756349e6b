#include "bench/server.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "base/thread_pool.h"
#include "endpoint/serving_load.h"
#include "endpoint/stream_client.h"
#include "io/json.h"
#include "server/api.h"
#include "server/http_server.h"

namespace nemoforge::bench {
namespace {

using Clock = std::chrono::steady_clock;
using TimePoints = std::vector<Clock::time_point>;

constexpr const char* kPath = "/v1/chat/completions";

// One pass of all requests.
struct PassResult {
  double duration_s = 0;
  double cpu_s = 0;                // of the process, without the client's
  double client_cpu_s = 0;         // 0 where there is none
  std::vector<double> latency_ms;  // from the choice of a token to its consumer: a sink, or the client
};

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

double cpu_seconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double percentile(std::vector<double>& values, double fraction) {
  if (values.empty()) return 0;
  const auto rank = static_cast<size_t>(fraction * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank), values.end());
  return values[rank];
}

double median(std::vector<double> values) {
  return percentile(values, 0.5);
}

// Keeps `num_streams` requests in the engine until all are done.
class DirectPass {
 public:
  DirectPass(engine::Engine& engine, std::vector<engine::Request> requests)
      : engine_(engine), requests_(std::move(requests)) {}

  Result<PassResult> run(size_t num_streams) {
    const auto begin = Clock::now();
    const double cpu_begin = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < num_streams; ++i) add_next();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return num_done_ == requests_.size() || !status_; });
    NF_RETURN_IF_ERROR(std::exchange(status_, {}));
    PassResult result;
    result.duration_s = seconds(Clock::now() - begin);
    result.cpu_s = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin;
    result.latency_ms = std::move(latency_ms_);
    return result;
  }

 private:
  void add_next() {
    engine::Request request;
    {
      const std::lock_guard lock(mutex_);
      if (next_ == requests_.size()) return;
      request = requests_[next_++];
    }
    const auto id = engine_.add_request(std::move(request), [this](engine::RequestOutput&& output) {
      const double late_ms = 1e3 * seconds(Clock::now() - output.chosen);
      if (output.request_finished) add_next();
      const std::lock_guard lock(mutex_);
      latency_ms_.insert(latency_ms_.end(), output.tokens.size(), late_ms);
      if (!output.request_finished) return;
      if (output.finish->error) status_ = tl::unexpected(*output.finish->error);
      ++num_done_;
      changed_.notify_all();
    });
    if (id) return;
    const std::lock_guard lock(mutex_);
    status_ = tl::unexpected(id.error());
    changed_.notify_all();
  }

  engine::Engine& engine_;
  std::vector<engine::Request> requests_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t next_ = 0;
  size_t num_done_ = 0;
  Status status_;
  std::vector<double> latency_ms_;
};

// Notes for every event of a stream when its token was chosen.
class TimedExchange : public server::Exchange {
 public:
  TimedExchange(std::shared_ptr<server::Exchange> exchange, std::shared_ptr<TimePoints> chosen)
      : exchange_(std::move(exchange)), chosen_(std::move(chosen)) {}
  void respond(server::HttpResponse response) override { exchange_->respond(std::move(response)); }
  void begin_stream(server::HttpResponse head) override { exchange_->begin_stream(std::move(head)); }
  void note_output(const engine::RequestOutput& output) override { last_chosen_ = output.chosen; }
  void write(std::string bytes) override {
    for (size_t at = bytes.find("data: {"); at != std::string::npos; at = bytes.find("\ndata: {", at + 1))
      chosen_->push_back(last_chosen_);
    exchange_->write(std::move(bytes));
  }
  void end() override { exchange_->end(); }
  void on_disconnect(std::function<void()> callback) override {
    exchange_->on_disconnect(std::move(callback));
  }

 private:
  std::shared_ptr<server::Exchange> exchange_;
  std::shared_ptr<TimePoints> chosen_;
  Clock::time_point last_chosen_;
};

// The server over the engine, with the transport's exchanges timed.
class TimedServer {
 public:
  [[nodiscard]] static Result<std::unique_ptr<TimedServer>> start(const server::ServedModel& served,
                                                                  engine::Engine& engine) {
    std::unique_ptr<TimedServer> timed(new TimedServer(served, engine));
    server::HttpConfig config;
    config.port = 0;
    NF_TRY(timed->http_,
           server::HttpServer::start(config, [raw = timed.get()](server::HttpRequest&& request,
                                                                 std::shared_ptr<server::Exchange> exchange) {
             auto chosen = std::make_shared<TimePoints>();
             {
               const std::lock_guard lock(raw->mutex_);
               raw->chosen_.at(std::stoul(request.request_id)) = chosen;
             }
             raw->api_.handle(std::move(request),
                              std::make_shared<TimedExchange>(std::move(exchange), chosen));
           }));
    return timed;
  }
  ~TimedServer() {
    if (http_) http_->stop(Clock::now());
  }
  TimedServer(const TimedServer&) = delete;
  TimedServer& operator=(const TimedServer&) = delete;

  Result<PassResult> run(const std::vector<std::string>& bodies, size_t num_streams) {
    chosen_.assign(bodies.size(), nullptr);
    const auto begin = Clock::now();
    const double cpu_begin = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    double client_cpu_s = 0;
    Result<std::vector<endpoint::StreamedAnswer>> answers;
    std::thread([&] {
      const double client_begin = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
      answers = endpoint::stream_all(http_->port(), kPath, bodies, num_streams);
      client_cpu_s = cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - client_begin;
    }).join();
    if (!answers) return forward_error(std::move(answers));
    PassResult result;
    result.duration_s = seconds(Clock::now() - begin);
    result.client_cpu_s = client_cpu_s;
    result.cpu_s = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin - client_cpu_s;
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < bodies.size(); ++i) {
      const TimePoints& arrivals = (*answers)[i].arrivals;
      if (arrivals.size() != chosen_[i]->size())
        return error(ErrorCode::kInvalidData, fmt::format("request {}: {} events were written and {} arrived",
                                                          i, chosen_[i]->size(), arrivals.size()));
      for (size_t event = 0; event < arrivals.size(); ++event)
        result.latency_ms.push_back(1e3 * seconds(arrivals[event] - (*chosen_[i])[event]));
    }
    return result;
  }

 private:
  TimedServer(const server::ServedModel& served, engine::Engine& engine)
      : api_(quiet_config(), served, engine) {}

  static server::ApiConfig quiet_config() {
    server::ApiConfig config;
    config.access_log = false;
    return config;
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<TimePoints>> chosen_;  // of each request
  server::Api api_;
  std::unique_ptr<server::HttpServer> http_;
};

std::vector<std::string> chat_bodies(const ServerOptions& options) {
  endpoint::ServingLoad load;
  load.model = "model";
  load.num_prompts = options.num_requests;
  load.input_words = options.input_words;
  load.output_tokens = options.output_tokens;
  load.ignore_eos = true;
  load.seed = options.seed;
  return endpoint::request_bodies(load);
}

// As the server reads them.
Result<std::vector<engine::Request>> engine_requests(const std::vector<std::string>& bodies,
                                                     const server::ServedModel& served) {
  std::vector<engine::Request> requests;
  for (const std::string& body : bodies) {
    NF_TRY(const io::Json json, server::parse_body(body));
    NF_TRY(const auto request, server::read_completion_request(json, server::Endpoint::kChat, served));
    requests.push_back(request.engine_request(0));
  }
  return requests;
}

Latency latency_of(std::vector<double>& values_ms) {
  return {percentile(values_ms, 0.5), percentile(values_ms, 0.99)};
}

ServerResult summarise_passes(const ServerOptions& options, const std::vector<PassResult>& direct,
                              const std::vector<PassResult>& http) {
  const auto num_tokens = static_cast<double>(options.num_requests * options.output_tokens);
  const double num_cores = ThreadPool::global().num_threads();
  std::vector<double> direct_rates, http_rates, ratios, client_shares, added_cpu_us, direct_ms, http_ms;
  for (size_t i = 0; i < direct.size(); ++i) {
    direct_rates.push_back(num_tokens / direct[i].duration_s);
    http_rates.push_back(num_tokens / http[i].duration_s);
    ratios.push_back(direct[i].duration_s / http[i].duration_s);
    client_shares.push_back(http[i].client_cpu_s / http[i].duration_s / num_cores);
    added_cpu_us.push_back(1e6 * (http[i].cpu_s - direct[i].cpu_s) / num_tokens);
    direct_ms.insert(direct_ms.end(), direct[i].latency_ms.begin(), direct[i].latency_ms.end());
    http_ms.insert(http_ms.end(), http[i].latency_ms.begin(), http[i].latency_ms.end());
  }
  ServerResult result;
  result.engine_tokens_per_s = median(direct_rates);
  result.http_tokens_per_s = median(http_rates);
  result.http_requests_per_s = result.http_tokens_per_s / static_cast<double>(options.output_tokens);
  result.ratio = median(ratios);
  result.client_cpu_share = median(client_shares);
  result.added_cpu_us_per_token = median(added_cpu_us);
  result.engine_latency = latency_of(direct_ms);
  result.http_latency = latency_of(http_ms);
  return result;
}

}  // namespace

Result<ServerResult> run_server(engine::Engine& engine, const server::ServedModel& served,
                                const ServerOptions& options) {
  const std::vector<std::string> bodies = chat_bodies(options);
  NF_TRY(const std::vector<engine::Request> requests, engine_requests(bodies, served));
  NF_TRY(const auto http_server, TimedServer::start(served, engine));
  std::vector<PassResult> direct, http;
  // The first round warms up.
  for (int64_t round = 0; round <= options.num_rounds; ++round) {
    NF_TRY(PassResult direct_pass, DirectPass(engine, requests).run(options.num_streams));
    NF_TRY(PassResult http_pass, http_server->run(bodies, options.num_streams));
    if (interrupted()) return error(ErrorCode::kCancelled, "interrupted");
    if (round == 0) continue;
    direct.push_back(std::move(direct_pass));
    http.push_back(std::move(http_pass));
  }
  return summarise_passes(options, direct, http);
}

}  // namespace nemoforge::bench
