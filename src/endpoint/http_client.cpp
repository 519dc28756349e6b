#include "endpoint/http_client.h"

#include <algorithm>
#include <map>

#include <curl/curl.h>

#include "base/check.h"

namespace nemoforge::endpoint {
namespace {

constexpr long kConnectTimeoutMs = 10'000;

struct HeaderList {
  curl_slist* list = nullptr;
  HeaderList() = default;
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;
  ~HeaderList() { curl_slist_free_all(list); }
  void add(const std::string& header) { list = curl_slist_append(list, header.c_str()); }
};

struct Exchange {
  CURL* handle = curl_easy_init();
  std::string request_body;
  std::function<void(std::string_view)> on_body;
  HeaderList headers;
  HttpResponse response;
  char error_text[CURL_ERROR_SIZE] = {};

  Exchange() { NF_CHECK(handle != nullptr) << "curl_easy_init"; }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() { curl_easy_cleanup(handle); }

  template <typename Value>
  void set(CURLoption option, Value value) {
    const CURLcode code = curl_easy_setopt(handle, option, value);
    NF_CHECK(code == CURLE_OK) << "curl option " << static_cast<int>(option) << ": "
                               << curl_easy_strerror(code);
  }
};

size_t append_body(char* data, size_t size, size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  if (exchange.on_body) {
    exchange.on_body({data, size * count});
    return size * count;
  }
  std::string& body = exchange.response.body;
  if (body.size() + size * count > kMaxHttpBodyBytes) return 0;  // ends the exchange with an error
  body.append(data, size * count);
  return size * count;
}

void configure(Exchange& exchange, const HttpRequest& request) {
  exchange.request_body = request.body;
  exchange.on_body = request.on_body;
  exchange.headers.add("Accept: application/json");
  if (!request.api_key.empty()) exchange.headers.add("Authorization: Bearer " + request.api_key);
  exchange.set(CURLOPT_URL, request.url.c_str());
  exchange.set(CURLOPT_PROTOCOLS_STR, "http,https");
  exchange.set(CURLOPT_NOSIGNAL, 1L);
  exchange.set(CURLOPT_TCP_KEEPALIVE, 1L);
  exchange.set(CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
  exchange.set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::max(request.timeout_s * 1000, 1.0)));
  exchange.set(CURLOPT_ERRORBUFFER, exchange.error_text);
  exchange.set(CURLOPT_WRITEFUNCTION, append_body);
  exchange.set(CURLOPT_WRITEDATA, static_cast<void*>(&exchange));
  if (!request.body.empty()) {
    exchange.headers.add("Content-Type: application/json");
    exchange.headers.add("Expect:");  // no waiting for "100 Continue"
    exchange.set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(exchange.request_body.size()));
    exchange.set(CURLOPT_POSTFIELDS, exchange.request_body.c_str());
  }
  exchange.set(CURLOPT_HTTPHEADER, exchange.headers.list);
}

HttpResponse finish(Exchange& exchange, CURLcode code) {
  HttpResponse response = std::move(exchange.response);
  long status = 0;
  curl_easy_getinfo(exchange.handle, CURLINFO_RESPONSE_CODE, &status);
  response.status = status;
  curl_off_t retry_after_s = 0;
  curl_easy_getinfo(exchange.handle, CURLINFO_RETRY_AFTER, &retry_after_s);
  if (retry_after_s > 0) response.retry_after_s = static_cast<double>(retry_after_s);
  curl_off_t connect_time_us = 0;
  curl_easy_getinfo(exchange.handle, CURLINFO_CONNECT_TIME_T, &connect_time_us);
  response.connected = status != 0 || (code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST &&
                                       connect_time_us > 0);
  if (code != CURLE_OK) {
    response.error = exchange.error_text[0] != '\0' ? exchange.error_text : curl_easy_strerror(code);
  }
  return response;
}

}  // namespace

struct HttpClient::State {
  CURLM* multi = nullptr;
  std::map<CURL*, std::unique_ptr<Exchange>> in_flight;
};

HttpClient::HttpClient() : state_(std::make_unique<State>()) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  NF_CHECK(initialised == CURLE_OK) << curl_easy_strerror(initialised);
  state_->multi = curl_multi_init();
  NF_CHECK(state_->multi != nullptr) << "curl_multi_init";
}

HttpClient::~HttpClient() {
  for (const auto& [handle, exchange] : state_->in_flight) curl_multi_remove_handle(state_->multi, handle);
  state_->in_flight.clear();
  curl_multi_cleanup(state_->multi);
}

void HttpClient::start(uint64_t request_id, const HttpRequest& request) {
  auto exchange = std::make_unique<Exchange>();
  exchange->response.request_id = request_id;
  configure(*exchange, request);
  NF_CHECK(curl_multi_add_handle(state_->multi, exchange->handle) == CURLM_OK);
  state_->in_flight.emplace(exchange->handle, std::move(exchange));
}

std::vector<HttpResponse> HttpClient::wait(double timeout_s) {
  int num_running = 0;
  NF_CHECK(curl_multi_perform(state_->multi, &num_running) == CURLM_OK);
  int num_messages = 0;
  const auto next_message = [&] { return curl_multi_info_read(state_->multi, &num_messages); };
  CURLMsg* message = next_message();
  if (message == nullptr) {
    const int timeout_ms = static_cast<int>(std::clamp(timeout_s * 1000, 0.0, 60'000.0));
    // A signal ends the wait early, which is as good as an event.
    (void)curl_multi_poll(state_->multi, nullptr, 0, timeout_ms, nullptr);
    NF_CHECK(curl_multi_perform(state_->multi, &num_running) == CURLM_OK);
    message = next_message();
  }
  std::vector<HttpResponse> responses;
  for (; message != nullptr; message = next_message()) {
    if (message->msg != CURLMSG_DONE) continue;
    const auto entry = state_->in_flight.find(message->easy_handle);
    NF_CHECK(entry != state_->in_flight.end());
    responses.push_back(finish(*entry->second, message->data.result));
    curl_multi_remove_handle(state_->multi, entry->first);
    state_->in_flight.erase(entry);
  }
  return responses;
}

}  // namespace nemoforge::endpoint
