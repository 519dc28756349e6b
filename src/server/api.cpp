#include "server/api.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/sinks/stdout_sinks.h>

#include "base/log.h"
#include "server/access.h"
#include "server/api_error.h"
#include "server/completion_call.h"
#include "server/metrics.h"
#include "server/token_routes.h"
#include "server/web_page.h"

namespace nemoforge::server {
namespace {

using Clock = std::chrono::steady_clock;

HttpResponse json_response(const io::Json& body) {
  HttpResponse response;
  response.body = io::dump_json(body);
  return response;
}

HttpResponse response_of(const Result<io::Json>& body) {
  return body ? json_response(*body) : error_response(to_api_error(body.error()));
}

// A browser sends forms and plain text to other sites without asking them, JSON it does not.
bool may_be_json(std::string_view content_type) {
  const std::string_view type = content_type.substr(0, content_type.find(';'));
  return type.empty() ||
         equal_ignoring_case(type.substr(0, type.find_last_not_of(" \t") + 1), "application/json");
}

// Completions that are being made, by count.
class Admission {
 public:
  // A request's completions, counted for as long as this lives.
  class Place {
   public:
    Place(Admission& admission, int64_t count) : admission_(admission), count_(count) {}
    ~Place() { admission_.leave(count_); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    Admission& admission_;
    int64_t count_;
  };

  explicit Admission(int64_t limit) : limit_(limit) {}

  // kInvalidArgument for more than may ever be inside, kResourceExhausted while too many are.
  Result<std::shared_ptr<Place>> enter(int64_t count) {
    const std::lock_guard lock(mutex_);
    if (draining_) return error(ErrorCode::kUnavailable, "the server is shutting down");
    if (count > limit_)
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("the request asks for {} completions, and this server makes at most {} at a time",
                      count, limit_));
    if (num_inside_ + count > limit_)
      return error(
          ErrorCode::kResourceExhausted,
          fmt::format("{} completions are running or waiting, and at most {} may be", num_inside_, limit_),
          "try again later");
    auto place = std::make_shared<Place>(*this, count);
    num_inside_ += count;
    return place;
  }

  bool drain(Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    draining_ = true;
    return changed_.wait_until(lock, deadline, [this] { return num_inside_ == 0; });
  }

  [[nodiscard]] bool is_draining() const {
    const std::lock_guard lock(mutex_);
    return draining_;
  }

 private:
  void leave(int64_t count) {
    {
      const std::lock_guard lock(mutex_);
      num_inside_ -= count;
    }
    changed_.notify_all();
  }

  const int64_t limit_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int64_t num_inside_ = 0;
  bool draining_ = false;
};

// What is known of an answer before it is made.
struct Ticket {
  HttpRequest request;
  std::string route;  // the path of a known route, or "other"
  std::string id;
  Clock::time_point begin = Clock::now();
  HttpResponse head;  // status 200 with the headers that every answer of the exchange carries
};

}  // namespace

struct Api::Impl : std::enable_shared_from_this<Api::Impl> {
  using Answer = HttpResponse (Impl::*)(const HttpRequest&);
  struct Route {
    const char* method;
    const char* path;
    Answer answer;  // null: completions, which answer for themselves
    bool is_open;   // without an API key
    bool is_slow;   // reads a body: for the pool
  };

  Impl(const ApiConfig& config_in, const ServedModel& served_in, engine::Engine& engine_in)
      : config(config_in),
        served(served_in),
        engine(engine_in),
        keys(config_in.api_keys),
        admission(engine_in.limits().max_num_seqs + config_in.max_queue),
        pool(static_cast<size_t>(config_in.num_threads)) {
    if (config.access_log) {
      log = std::make_shared<spdlog::logger>("access", std::make_shared<spdlog::sinks::stderr_sink_mt>());
      log->set_pattern("%v");
    }
  }

  static const std::vector<Route>& routes() {
    static const std::vector<Route> table = {
        {"POST", "/v1/chat/completions", nullptr, false, true},
        {"POST", "/v1/completions", nullptr, false, true},
        {"GET", "/v1/models", &Impl::models, false, false},
        {"POST", "/tokenize", &Impl::tokenize_route, false, true},
        {"POST", "/detokenize", &Impl::detokenize_route, false, true},
        {"POST", "/v1/load_lora_adapter", &Impl::load_adapter, false, true},
        {"POST", "/v1/unload_lora_adapter", &Impl::unload_adapter, false, true},
        {"GET", "/", &Impl::page, true, false},
        {"GET", "/health", &Impl::health, true, false},
        {"GET", "/ready", &Impl::ready, true, false},
        {"GET", "/version", &Impl::version, true, false},
        {"GET", "/metrics", &Impl::metrics_route, true, false},
    };
    return table;
  }

  HttpResponse models(const HttpRequest& /*request*/) { return json_response(served.registry->list()); }

  HttpResponse model(const HttpRequest& request) {
    return response_of(
        served.registry->describe(request.path.substr(std::string_view("/v1/models/").size())));
  }

  HttpResponse tokenize_route(const HttpRequest& request) {
    auto body = parse_body(request.body);
    return response_of(body ? tokenize(*body, served) : Result<io::Json>(forward_error(std::move(body))));
  }

  HttpResponse detokenize_route(const HttpRequest& request) {
    auto body = parse_body(request.body);
    return response_of(body ? detokenize(*body, served) : Result<io::Json>(forward_error(std::move(body))));
  }

  // A string field of the body; kInvalidArgument where it is none.
  static Result<std::string> text_field(const io::Json& body, const char* name) {
    const auto found = body.find(name);
    if (found == body.end() || !found->is_string())
      return error(ErrorCode::kInvalidArgument, fmt::format("{} must be a string.", name));
    return found->get<std::string>();
  }

  Result<std::string> update_adapters(const HttpRequest& request, bool load) {
    if (!config.allow_lora_updates)
      return error(ErrorCode::kNotFound, "adapters cannot be changed while this server runs",
                   "start it with --allow-lora-updates");
    NF_TRY(const io::Json body, parse_body(request.body));
    NF_TRY(const std::string name, text_field(body, "lora_name"));
    if (load) {
      NF_TRY(const std::string path, text_field(body, "lora_path"));
      // That a folder cannot be read is the request's fault.
      if (const auto loaded = served.registry->load(name, path); !loaded)
        return error(ErrorCode::kInvalidArgument, loaded.error().message, loaded.error().hint);
      return fmt::format("Success: LoRA adapter '{}' added successfully.", name);
    }
    NF_RETURN_IF_ERROR(served.registry->unload(name));
    return fmt::format("Success: LoRA adapter '{}' removed successfully.", name);
  }

  HttpResponse text_response(const Result<std::string>& text) {
    if (!text) return error_response(to_api_error(text.error()));
    HttpResponse response;
    response.content_type = "text/plain; charset=utf-8";
    response.body = *text;
    return response;
  }

  HttpResponse load_adapter(const HttpRequest& request) {
    return text_response(update_adapters(request, true));
  }
  HttpResponse unload_adapter(const HttpRequest& request) {
    return text_response(update_adapters(request, false));
  }

  HttpResponse health(const HttpRequest& /*request*/) {
    if (!engine.is_healthy()) return error_response({503, "the engine has failed", {}});
    return json_response({{"status", "ok"}});
  }

  HttpResponse ready(const HttpRequest& request) {
    if (admission.is_draining()) return error_response({503, "the server is shutting down", {}});
    return health(request);
  }

  HttpResponse version(const HttpRequest& /*request*/) {
    return json_response({{"version", config.version}});
  }

  HttpResponse page(const HttpRequest& /*request*/) {
    HttpResponse response;
    response.content_type = "text/html; charset=utf-8";
    response.body = web_page();
    response.headers = {{"Content-Security-Policy", web_page_policy()},
                        {"X-Content-Type-Options", "nosniff"},
                        {"Referrer-Policy", "no-referrer"}};
    return response;
  }

  HttpResponse metrics_route(const HttpRequest& /*request*/) {
    HttpResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = metrics_text(engine.stats(), http_metrics, served.registry->name());
    return response;
  }

  void record(const Ticket& ticket, const CallSummary& summary) {
    http_metrics.count(ticket.route, summary.status);
    if (!log) return;
    const double ms = std::chrono::duration<double, std::milli>(Clock::now() - ticket.begin).count();
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    log->info(io::dump_json({{"time", std::chrono::duration<double>(now).count()},
                             {"request_id", ticket.id},
                             {"peer", ticket.request.peer},
                             {"method", ticket.request.method},
                             {"path", ticket.request.path},
                             {"status", summary.status},
                             {"duration_ms", ms},
                             {"prompt_tokens", summary.prompt_tokens},
                             {"completion_tokens", summary.completion_tokens}}));
  }

  void answer(Ticket& ticket, Exchange& exchange, HttpResponse response) {
    for (const auto& header : ticket.head.headers) response.headers.push_back(header);
    const int status = response.status;
    exchange.respond(std::move(response));
    record(ticket, {.status = status});
  }

  void complete(const std::shared_ptr<Ticket>& ticket, const std::shared_ptr<Exchange>& exchange,
                Endpoint endpoint) {
    const auto refuse = [&](const Error& error) {
      answer(*ticket, *exchange, error_response(to_api_error(error)));
    };
    auto body = parse_body(ticket->request.body);
    ticket->request.body = {};
    if (!body) return refuse(body.error());
    auto request = read_completion_request(*body, endpoint, served);
    if (!request) return refuse(request.error());
    auto place = admission.enter(request->num_choices());
    if (!place) return refuse(place.error());
    const auto call =
        std::make_shared<CompletionCall>(std::move(*request), served, exchange, ticket->head,
                                         [self = shared_from_this(), ticket, place = *place](
                                             const CallSummary& summary) { self->record(*ticket, summary); });
    place = {};
    call->start(engine);
  }

  // On a thread of the pool.
  void run(const Route& route, const std::shared_ptr<Ticket>& ticket,
           const std::shared_ptr<Exchange>& exchange) {
    try {
      if (route.answer == nullptr) {
        const bool is_chat = std::string_view(route.path) == "/v1/chat/completions";
        complete(ticket, exchange, is_chat ? Endpoint::kChat : Endpoint::kCompletions);
      } else {
        answer(*ticket, *exchange, (this->*route.answer)(ticket->request));
      }
    } catch (const std::exception& failure) {
      spdlog::error("request {}: {}", ticket->id, failure.what());
      answer(*ticket, *exchange, error_response({500, "internal error", {}}));
    }
  }

  void handle(HttpRequest&& request, const std::shared_ptr<Exchange>& exchange) {
    auto ticket = std::make_shared<Ticket>();
    ticket->request = std::move(request);
    ticket->route = "other";
    ticket->id = request_id(ticket->request.request_id);
    ticket->head.headers =
        cors_headers(config.cors_origins, ticket->request.origin, ticket->request.requested_headers);
    ticket->head.headers.emplace_back("X-Request-Id", ticket->id);
    if (const auto& refusal = ticket->request.refusal)
      return answer(*ticket, *exchange, error_response({refusal->status, refusal->message, {}}));
    const std::string& path = ticket->request.path;
    // HEAD is GET without the body, which the transport leaves out.
    const std::string method = ticket->request.method == "HEAD" ? "GET" : ticket->request.method;

    static const Route model_route = {"GET", "/v1/models/{id}", &Impl::model, false, false};
    const Route* found = nullptr;
    std::string allowed;  // the methods that the path takes
    const auto consider = [&](const Route& route) {
      allowed = route.method == std::string_view("GET") ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
      if (method == route.method) found = &route;
    };
    for (const Route& route : routes()) {
      if (path == route.path) consider(route);
    }
    if (path.starts_with("/v1/models/")) consider(model_route);
    if (method == "OPTIONS" && !allowed.empty()) {
      HttpResponse response;
      response.content_type = {};
      response.headers.emplace_back("Allow", allowed);
      return answer(*ticket, *exchange, std::move(response));
    }
    if ((found == nullptr || !found->is_open) && !keys.admit(ticket->request.authorization))
      return answer(*ticket, *exchange, error_response({401, "the API key is missing or wrong", {}}));
    if (found == nullptr && allowed.empty())
      return answer(*ticket, *exchange, error_response({404, "there is nothing at this path", {}}));
    if (found == nullptr) {
      HttpResponse refusal = error_response({405, "this path does not take the method " + method, {}});
      refusal.headers.emplace_back("Allow", allowed);
      return answer(*ticket, *exchange, std::move(refusal));
    }
    ticket->route = found->path;
    if (method == "POST" && !may_be_json(ticket->request.content_type))
      return answer(*ticket, *exchange,
                    error_response({415, "the Content-Type must be application/json", {}}));
    if (!found->is_slow) return run(*found, ticket, exchange);
    boost::asio::post(
        pool, [self = shared_from_this(), found, ticket, exchange] { self->run(*found, ticket, exchange); });
  }

  ApiConfig config;
  ServedModel served;
  engine::Engine& engine;
  ApiKeys keys;
  Admission admission;
  HttpMetrics http_metrics;
  std::shared_ptr<spdlog::logger> log;
  boost::asio::thread_pool pool;
};

Api::Api(const ApiConfig& config, const ServedModel& served, engine::Engine& engine)
    : impl_(std::make_shared<Impl>(config, served, engine)) {}

Api::~Api() {
  impl_->pool.join();
}

void Api::handle(HttpRequest&& request, const std::shared_ptr<Exchange>& exchange) {
  impl_->handle(std::move(request), exchange);
}

bool Api::drain(std::chrono::steady_clock::time_point deadline) {
  return impl_->admission.drain(deadline);
}

}  // namespace nemoforge::server
