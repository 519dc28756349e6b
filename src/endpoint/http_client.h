// HTTP requests side by side on one thread (libcurl's multi interface).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemoforge::endpoint {

struct HttpRequest {
  std::string url;
  std::string body;  // JSON, posted; empty: a GET
  std::string api_key;
  double timeout_s = 600;  // for the whole exchange
  // Called within wait() with each piece of the body as it comes, which is then not kept in the response.
  std::function<void(std::string_view piece)> on_body = {};
};

struct HttpResponse {
  uint64_t request_id = 0;
  int64_t status = 0;      // 0: none came
  std::string body;        // at most kMaxHttpBodyBytes; longer ones are transport errors
  std::string error;       // of the transport, in words; empty where a whole response came
  bool connected = false;  // whether a server was reached
  std::optional<double> retry_after_s;
};

inline constexpr size_t kMaxHttpBodyBytes = size_t{256} << 20;

class HttpClient {
 public:
  HttpClient();
  ~HttpClient();  // drops what is in flight
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Begins an exchange; `request_id` comes back with the response. Only http and https; redirects are
  // responses like others.
  void start(uint64_t request_id, const HttpRequest& request);
  // Waits for at most timeout_s until something has happened; the exchanges that have ended, in that order.
  [[nodiscard]] std::vector<HttpResponse> wait(double timeout_s);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nemoforge::endpoint
