// What the HTTP transport and the API have in common: a request, and the exchange that answers it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace nemoforge::engine {
struct RequestOutput;
}

namespace nemoforge::server {

// Why the transport could not read a request to its end.
struct HttpRefusal {
  int status = 400;
  std::string message;
};

struct HttpRequest {
  std::string method;
  std::string path;  // of the target, without its query, percent signs decoded
  std::string body;
  std::string authorization;  // header fields; empty where absent
  std::string content_type;
  std::string origin;
  std::string request_id;
  std::string requested_headers;  // Access-Control-Request-Headers
  std::string peer;               // address of the client
  // Set where the request is to be refused; of the other fields those are there that had been read.
  std::optional<HttpRefusal> refusal;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  bool close = false;  // the connection, afterwards
};

// One request's answer. All functions may be called from any thread, and do not block. An answer is either
// respond(), or begin_stream(), any number of write() and end(). After the client has gone they do nothing.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void respond(HttpResponse response) = 0;
  // Sends status and headers of a response of unknown length; `head.body` is not used.
  virtual void begin_stream(HttpResponse head) = 0;
  virtual void write(std::string bytes) = 0;
  // Called before what comes of an engine's output is written, for exchanges that measure.
  virtual void note_output(const engine::RequestOutput& /*output*/) {}
  virtual void end() = 0;
  // Calls `callback` once when the client goes away before its answer is complete, at once if it has gone.
  virtual void on_disconnect(std::function<void()> callback) = 0;
};

// Takes a request, on a thread of the transport: must not block.
using HttpHandler = std::function<void(HttpRequest&&, std::shared_ptr<Exchange>)>;

}  // namespace nemoforge::server
