#include "trace/endpoint_source.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include <curl/curl.h>

#include "base/check.h"
#include "base/log.h"
#include "endpoint/http_client.h"
#include "endpoint/openai_api.h"
#include "trace/chat_completion.h"

namespace nemoforge::trace {
namespace {

// How long a wait may last before stopped() is asked again.
constexpr double kMaxWaitS = 0.2;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int64_t wall_clock_ms() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since_1970).count();
}

// What to do after a response that is no answer.
enum class Remedy {
  kTryAgain,      // the server's fault or the network's
  kLeaveOutMore,  // perhaps it does not know our extensions
  kGiveUpRequest,
  kGiveUpRun,
};

Remedy remedy_for(int64_t status, ApiExtensions extensions) {
  if (status == 401 || status == 403 || status == 404) return Remedy::kGiveUpRun;
  if (status == 408 || status == 425 || status == 429 || status >= 500) return Remedy::kTryAgain;
  if (status == 400 || status == 422) {
    return extensions == ApiExtensions::kAsked ? Remedy::kLeaveOutMore : Remedy::kGiveUpRequest;
  }
  return status >= 300 && status < 500 ? Remedy::kGiveUpRequest : Remedy::kTryAgain;
}

std::string describe(const endpoint::HttpResponse& response) {
  if (!response.error.empty()) return response.error;
  return "status " + std::to_string(response.status) + ": " + endpoint::api_error_text(response.body);
}

}  // namespace

Result<std::string> api_base_url(const std::string& url) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), curl_url_cleanup);
  const auto part = [&](CURLUPart which) {
    char* text = nullptr;
    std::string value;
    if (curl_url_get(parsed.get(), which, &text, 0) == CURLUE_OK) value = text;
    curl_free(text);
    return value;
  };
  const bool is_url = curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) == CURLUE_OK;
  const std::string scheme = is_url ? part(CURLUPART_SCHEME) : "";
  if ((scheme != "http" && scheme != "https") || !part(CURLUPART_QUERY).empty()) {
    return error(ErrorCode::kInvalidArgument, "`" + url + "` is not the URL of an endpoint",
                 "for example http://127.0.0.1:8000");
  }
  std::string base = url.substr(0, url.find('#'));
  const auto drop_end = [&base](std::string_view end) {
    if (base.ends_with(end)) base.resize(base.size() - end.size());
  };
  drop_end("/");
  drop_end("/chat/completions");
  const std::string path = part(CURLUPART_PATH);
  return path.empty() || path == "/" ? base + "/v1" : base;
}

// One request on its way to an answer.
struct Job {
  TraceRequest request;
  size_t endpoint_idx = 0;
  ApiExtensions extensions = ApiExtensions::kAsked;  // of the attempt in flight
  std::optional<size_t> refused_by;  // the endpoint that refused it with extensions: it goes on without
  int num_attempts = 0;
  int64_t started_ms = 0;
};

struct EndpointSource::State {
  EndpointConfig config;
  SamplingSettings settings;
  SourceIdentity identity;
  std::vector<ApiExtensions> extensions;  // what each endpoint is known to take
  std::vector<bool> reported_down;

  // Of one run.
  endpoint::EndpointPool pool;
  std::map<uint64_t, Job> in_flight;
  std::deque<Job> waiting;  // to be tried again
  bool exhausted = false;   // there is no next request
  uint64_t num_started = 0;
  // Last, so that it goes first: what is in flight refers to nothing of the above, but ends with the run.
  std::unique_ptr<endpoint::HttpClient> client;

  State(EndpointConfig endpoint_config, SamplingSettings sampling)
      : config(std::move(endpoint_config)),
        settings(sampling),
        extensions(config.urls.size(), ApiExtensions::kAsked),
        reported_down(config.urls.size(), false),
        pool(config.urls.size(), config.max_in_flight_each, config.backoff) {}

  void begin_run(int64_t max_in_flight_each);
  void start_jobs(const SourceCallbacks& callbacks);
  Status take(endpoint::HttpResponse&& response, const SourceCallbacks& callbacks);
  Status take_failure(Job&& job, const endpoint::HttpResponse& response, const SourceCallbacks& callbacks);
  Status check_alive() const;
  [[nodiscard]] double wait_time_s() const;
  Result<std::vector<endpoint::ListedModel>> ask_models(const std::function<bool()>& stopped);
  void note_extensions(const Job& job);
  void note_availability(size_t endpoint_idx, bool is_up, const std::string& why);
};

void EndpointSource::State::begin_run(int64_t max_in_flight_each) {
  pool = endpoint::EndpointPool(config.urls.size(), max_in_flight_each, config.backoff);
  in_flight.clear();
  waiting.clear();
  exhausted = false;
  client = std::make_unique<endpoint::HttpClient>();
}

// Tells the user once when an endpoint goes and once when it returns.
void EndpointSource::State::note_availability(size_t endpoint_idx, bool is_up, const std::string& why) {
  if (reported_down[endpoint_idx] == !is_up) return;
  reported_down[endpoint_idx] = !is_up;
  if (is_up) {
    spdlog::info("{} answers again", config.urls[endpoint_idx]);
  } else {
    spdlog::warn("{} does not answer, will be tried again: {}", config.urls[endpoint_idx], why);
  }
}

// An endpoint that took the request only without our extensions is not asked for them again.
void EndpointSource::State::note_extensions(const Job& job) {
  if (job.refused_by != job.endpoint_idx || extensions[job.endpoint_idx] == ApiExtensions::kLeftOut) return;
  extensions[job.endpoint_idx] = ApiExtensions::kLeftOut;
  spdlog::info("{} knows OpenAI's own fields only: its traces will lack token ids",
               config.urls[job.endpoint_idx]);
}

void EndpointSource::State::start_jobs(const SourceCallbacks& callbacks) {
  while (!waiting.empty() || !exhausted) {
    const auto endpoint_idx = pool.acquire(now_s());
    if (!endpoint_idx) return;
    Job job;
    if (!waiting.empty()) {
      job = std::move(waiting.front());
      waiting.pop_front();
    } else if (auto request = callbacks.next()) {
      job.request = std::move(*request);
    } else {
      exhausted = true;
      pool.release(*endpoint_idx);
      return;
    }
    job.endpoint_idx = *endpoint_idx;
    job.extensions = job.refused_by ? ApiExtensions::kLeftOut : extensions[*endpoint_idx];
    job.started_ms = wall_clock_ms();
    const uint64_t id = ++num_started;
    client->start(id, {.url = config.urls[*endpoint_idx] + "/chat/completions",
                       .body = chat_completion_body(identity.model, job.request, settings, job.extensions),
                       .api_key = config.api_key,
                       .timeout_s = config.timeout_s});
    in_flight.emplace(id, std::move(job));
  }
}

Status EndpointSource::State::take(endpoint::HttpResponse&& response, const SourceCallbacks& callbacks) {
  const auto entry = in_flight.find(response.request_id);
  NF_CHECK(entry != in_flight.end());
  Job job = std::move(entry->second);
  in_flight.erase(entry);
  if (!response.error.empty() || response.status != 200) {
    return take_failure(std::move(job), response, callbacks);
  }
  auto answer = parse_chat_completion(response.body);
  if (!answer) {
    response.error = answer.error().message;
    return take_failure(std::move(job), response, callbacks);
  }
  pool.succeed(job.endpoint_idx);
  note_availability(job.endpoint_idx, true, "");
  note_extensions(job);
  answer->endpoint = config.urls[job.endpoint_idx];
  answer->started_ms = job.started_ms;
  answer->finished_ms = wall_clock_ms();
  callbacks.sampled(answer->num_completion_tokens);
  return callbacks.done(job.request, std::move(answer));
}

Status EndpointSource::State::take_failure(Job&& job, const endpoint::HttpResponse& response,
                                           const SourceCallbacks& callbacks) {
  const std::string what = config.urls[job.endpoint_idx] + ": " + describe(response);
  const Remedy remedy =
      response.error.empty() ? remedy_for(response.status, job.extensions) : Remedy::kTryAgain;
  if (remedy == Remedy::kGiveUpRun) {
    const char* hint = response.status == 404 ? "is the URL right, and does the endpoint serve this model?"
                                              : "does the endpoint want an API key?";
    return error(ErrorCode::kUnavailable, what, hint);
  }
  if (remedy == Remedy::kTryAgain) {
    pool.fail(job.endpoint_idx, now_s(), response.retry_after_s);
    note_availability(job.endpoint_idx, false, describe(response));
    // A server that is not there, or is busy, says nothing about the request.
    const bool is_busy = response.status == 429 || response.status == 503;
    if (response.connected && !is_busy) ++job.num_attempts;
    if (job.num_attempts < config.max_attempts) {
      waiting.push_back(std::move(job));
      return {};
    }
    return callbacks.done(job.request, error(ErrorCode::kUnavailable,
                                             what + " (attempt " + std::to_string(job.num_attempts) + ")"));
  }
  pool.succeed(job.endpoint_idx);
  if (remedy == Remedy::kLeaveOutMore) {
    // It may be the request itself that is refused: only its success without them will tell.
    job.refused_by = job.endpoint_idx;
    waiting.push_front(std::move(job));
    return {};
  }
  return callbacks.done(job.request, error(ErrorCode::kInvalidArgument, what));
}

Status EndpointSource::State::check_alive() const {
  // A request may take as long as its own limit; silence counts only where none is being answered.
  if (!in_flight.empty() || pool.all_down_for(now_s()) < config.give_up_after_s) return {};
  return error(ErrorCode::kUnavailable,
               "no endpoint has answered for " +
                   std::to_string(static_cast<int64_t>(config.give_up_after_s)) +
                   " s: " + config.urls.front() + (config.urls.size() > 1 ? " and the others" : ""),
               "start one and continue with --resume");
}

double EndpointSource::State::wait_time_s() const {
  return std::min(pool.next_trial_in(now_s()).value_or(kMaxWaitS) + 0.001, kMaxWaitS);
}

// What the first endpoint that answers says; nothing where it has no such list and the user names the model.
Result<std::vector<endpoint::ListedModel>> EndpointSource::State::ask_models(
    const std::function<bool()>& stopped) {
  begin_run(1);
  while (true) {
    if (stopped()) return error(ErrorCode::kCancelled, "interrupted");
    if (const auto endpoint_idx = pool.acquire(now_s())) {
      client->start(*endpoint_idx, {.url = config.urls[*endpoint_idx] + "/models",
                                    .body = "",
                                    .api_key = config.api_key,
                                    .timeout_s = 30});
      in_flight.emplace(*endpoint_idx, Job{});
    }
    for (const endpoint::HttpResponse& response : client->wait(wait_time_s())) {
      const size_t endpoint_idx = response.request_id;
      in_flight.erase(endpoint_idx);
      const std::string what = config.urls[endpoint_idx] + ": " + describe(response);
      const bool is_named = !config.model.empty();
      if (is_named && response.error.empty() && response.status == 404) {
        return std::vector<endpoint::ListedModel>();
      }
      if (response.error.empty() && response.status == 200) {
        auto models = endpoint::parse_model_list(response.body);
        if (!models && is_named) return std::vector<endpoint::ListedModel>();
        if (!models)
          return error(models.error().code, config.urls[endpoint_idx] + ": " + models.error().message);
        return models;
      }
      if (response.error.empty() &&
          remedy_for(response.status, ApiExtensions::kLeftOut) != Remedy::kTryAgain) {
        return error(ErrorCode::kUnavailable, what, "the URL or the API key may be wrong");
      }
      pool.fail(endpoint_idx, now_s(), response.retry_after_s);
      note_availability(endpoint_idx, false, describe(response));
    }
    NF_RETURN_IF_ERROR(check_alive());
  }
}

namespace {

// Of the model `name`, or of the first one where it is empty.
SourceIdentity identity_of(const std::string& name, const std::vector<endpoint::ListedModel>& listed) {
  for (const endpoint::ListedModel& model : listed) {
    if (!name.empty() && model.id != name) continue;
    std::string adapter;
    if (!model.adapter_hash.empty()) adapter = model.id + "@" + model.adapter_hash.substr(0, 16);
    return {model.id, std::move(adapter), model.checkpoint_hash, model.chat_template_hash};
  }
  return {name, "", "", ""};
}

}  // namespace

EndpointSource::EndpointSource(std::unique_ptr<State> state) : state_(std::move(state)) {}
EndpointSource::EndpointSource(EndpointSource&&) noexcept = default;
EndpointSource::~EndpointSource() = default;

Result<EndpointSource> EndpointSource::connect(EndpointConfig config, SamplingSettings settings,
                                               const std::function<bool()>& stopped) {
  NF_CHECK(!config.urls.empty() && config.max_in_flight_each > 0);
  for (std::string& url : config.urls) {
    NF_TRY(url, api_base_url(url));
  }
  auto state = std::make_unique<State>(std::move(config), settings);
  NF_TRY(const std::vector<endpoint::ListedModel> listed, state->ask_models(stopped));
  state->identity = identity_of(state->config.model, listed);
  return EndpointSource(std::move(state));
}

const SourceIdentity& EndpointSource::identity() const {
  return state_->identity;
}

Status EndpointSource::run(const SourceCallbacks& callbacks) {
  state_->begin_run(state_->config.max_in_flight_each);
  while (!callbacks.stopped()) {
    state_->start_jobs(callbacks);
    if (state_->exhausted && state_->waiting.empty() && state_->in_flight.empty()) break;
    for (endpoint::HttpResponse& response : state_->client->wait(state_->wait_time_s())) {
      NF_RETURN_IF_ERROR(state_->take(std::move(response), callbacks));
    }
    NF_RETURN_IF_ERROR(state_->check_alive());
  }
  state_->client.reset();
  return {};
}

}  // namespace nemoforge::trace
