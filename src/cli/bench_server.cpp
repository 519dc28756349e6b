// nemoforge bench server: what the server adds to the engine. The same requests go through the engine alone
// and over HTTP in turns, in one process.
#include <algorithm>
#include <condition_variable>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "base/thread_pool.h"
#include "cli/generation.h"
#include "cli/remote_commands.h"
#include "cli/serving_load.h"
#include "cli/standard_input.h"
#include "cli/stream_client.h"
#include "io/json.h"
#include "server/api.h"
#include "server/completion_request.h"
#include "server/http_server.h"

namespace nemoforge::cli {
namespace {

using Clock = std::chrono::steady_clock;
using TimePoints = std::vector<Clock::time_point>;

constexpr const char* kPath = "/v1/chat/completions";

struct BenchServerCommand {
  ModelFlags model;
  size_t num_streams = 64;
  int64_t num_requests = 128;
  int64_t input_words = 8;
  int64_t output_tokens = 200;
  int64_t num_rounds = 5;
  uint64_t seed = 0;
  bool json = false;
};

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
    Result<std::vector<StreamedAnswer>> answers;
    std::thread([&] {
      const double client_begin = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
      answers = stream_all(http_->port(), kPath, bodies, num_streams);
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
    config.version = NEMOFORGE_VERSION;
    config.access_log = false;
    return config;
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<TimePoints>> chosen_;  // of each request
  server::Api api_;
  std::unique_ptr<server::HttpServer> http_;
};

std::vector<std::string> chat_bodies(const BenchServerCommand& command) {
  ServingLoad load;
  load.model = "model";
  load.num_prompts = command.num_requests;
  load.input_words = command.input_words;
  load.output_tokens = command.output_tokens;
  load.ignore_eos = true;
  load.seed = command.seed;
  return request_bodies(load);
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

Status report(const BenchServerCommand& command, std::vector<PassResult>& direct,
              std::vector<PassResult>& http) {
  const auto num_tokens = static_cast<double>(command.num_requests * command.output_tokens);
  const double num_cores = ThreadPool::global().num_threads();
  std::vector<double> direct_rates, http_rates, ratios, client_shares, added_cpu_us, direct_ms, http_ms;
  for (size_t i = 0; i < direct.size(); ++i) {
    direct_rates.push_back(num_tokens / direct[i].duration_s);
    http_rates.push_back(num_tokens / http[i].duration_s);
    ratios.push_back(direct[i].duration_s / http[i].duration_s);
    client_shares.push_back(http[i].client_cpu_s / http[i].duration_s / num_cores);
    added_cpu_us.push_back(1e6 * (http[i].cpu_s - direct[i].cpu_s) / num_tokens);
    std::move(direct[i].latency_ms.begin(), direct[i].latency_ms.end(), std::back_inserter(direct_ms));
    std::move(http[i].latency_ms.begin(), http[i].latency_ms.end(), std::back_inserter(http_ms));
  }
  const double requests_per_s = median(http_rates) / static_cast<double>(command.output_tokens);
  const io::Json figures = {
      {"bench", "server"},
      {"model", command.model.model},
      {"streams", command.num_streams},
      {"requests", command.num_requests},
      {"output_tokens", command.output_tokens},
      {"rounds", command.num_rounds},
      {"engine_tokens_per_s", median(direct_rates)},
      {"http_tokens_per_s", median(http_rates)},
      {"http_requests_per_s", requests_per_s},
      {"ratio", median(ratios)},
      {"client_cpu_share", median(client_shares)},
      {"added_cpu_us_per_token", median(added_cpu_us)},
      {"engine_latency_ms", {{"p50", percentile(direct_ms, 0.5)}, {"p99", percentile(direct_ms, 0.99)}}},
      {"http_latency_ms", {{"p50", percentile(http_ms, 0.5)}, {"p99", percentile(http_ms, 0.99)}}}};
  const std::string text = fmt::format(
      "{} streams, {} requests of {} tokens, medians of {} rounds in turns\n"
      "engine alone {:.0f} tokens/s; over HTTP {:.0f} tokens/s ({:.1f} requests/s), {:.1f}% of it; the "
      "client "
      "took {:.1f}% of the cores\n"
      "CPU time of the server's own: {:.1f} us a token\n"
      "from a token's choice to the client: p50 {:.3f} ms, p99 {:.3f} ms; to a sink in the process: p50 "
      "{:.3f} "
      "ms, p99 {:.3f} ms",
      command.num_streams, command.num_requests, command.output_tokens, command.num_rounds,
      median(direct_rates), median(http_rates), requests_per_s, 100 * median(ratios),
      100 * median(client_shares), median(added_cpu_us), percentile(http_ms, 0.5), percentile(http_ms, 0.99),
      percentile(direct_ms, 0.5), percentile(direct_ms, 0.99));
  return write_standard_output((command.json ? io::dump_json(figures) : text) + "\n");
}

Status run_bench_server(const BenchServerCommand& command) {
  install_interrupt_handler();
  engine::EngineConfig config;
  config.max_num_seqs = static_cast<int64_t>(command.num_streams);
  config.enable_prefix_caching = false;  // every pass computes the same
  NF_TRY(Generator generator, make_generator(command.model, config));
  NF_TRY(const auto chat_template, text::ChatTemplate::load(command.model.model));
  engine::Engine& engine = *generator.engine;
  server::ModelRegistry registry(
      "model", command.model.model, engine.limits().max_model_len,
      [&](const std::string& path) { return load_adapter(path, generator.loaded); });
  const server::ServedModel served{generator.tokenizer.get(), &chat_template, &registry,
                                   engine.limits().max_model_len};
  const std::vector<std::string> bodies = chat_bodies(command);
  NF_TRY(const std::vector<engine::Request> requests, engine_requests(bodies, served));
  NF_TRY(const auto http_server, TimedServer::start(served, engine));
  std::vector<PassResult> direct, http;
  // The first round warms up.
  for (int64_t round = 0; round <= command.num_rounds; ++round) {
    NF_TRY(PassResult direct_pass, DirectPass(engine, requests).run(command.num_streams));
    NF_TRY(PassResult http_pass, http_server->run(bodies, command.num_streams));
    if (interrupted()) return error(ErrorCode::kCancelled, "interrupted");
    if (round == 0) continue;
    direct.push_back(std::move(direct_pass));
    http.push_back(std::move(http_pass));
  }
  return report(command, direct, http);
}

}  // namespace

void add_bench_server_command(CLI::App& app, Outcome& outcome) {
  auto command = std::make_shared<BenchServerCommand>();
  CLI::App* sub =
      add_command(*app.get_subcommand("bench"), outcome, "server",
                  "Measure what HTTP costs: the same chats through the engine alone and over HTTP, in turns",
                  [command] { return run_bench_server(*command); });
  add_checkpoint_flags(*sub, command->model);
  sub->add_option("--streams", command->num_streams, "Number of requests at the same time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  sub->add_option("--requests", command->num_requests, "Number of requests per pass")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  sub->add_option("--input-len", command->input_words, "Number of words per prompt")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  sub->add_option("--output-len", command->output_tokens, "Number of tokens per answer")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  sub->add_option("--rounds", command->num_rounds, "Number of passes of each kind, after a warm-up pass")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  sub->add_option("--seed", command->seed, "Seed of the prompts")->capture_default_str();
  sub->add_flag("--json", command->json, "Print the figures as one JSON object");
}

}  // namespace nemoforge::cli
