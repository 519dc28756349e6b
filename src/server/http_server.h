// HTTP/1.1 on a TCP port, with TLS or without: keep-alive, chunked streams, limits and deadlines. Knows
// nothing of the API.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "server/http_exchange.h"
#include "server/tls.h"

namespace nemoforge::server {

struct HttpConfig {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  // 0: one that is free
  int num_threads = 2;   // that read and write sockets
  uint32_t max_header_bytes = 32 * 1024;
  uint64_t max_body_bytes = 16 * 1024 * 1024;
  TlsContextPtr tls;              // null: plain HTTP
  size_t max_connections = 1024;  // more are answered with 503, or with TLS closed
  // What a stream may have waiting for a client that does not read; beyond it the client counts as gone.
  size_t max_unsent_bytes = 8 * 1024 * 1024;
  std::chrono::seconds handshake_timeout{10};
  std::chrono::seconds idle_timeout{75};   // between requests
  std::chrono::seconds read_timeout{30};   // for a whole request, from its first byte
  std::chrono::seconds write_timeout{60};  // without progress
};

class HttpServer {
 public:
  // Listens at once. Errors (kIo: the address is taken or not ours) name host and port. The handler is called
  // until stop() returns.
  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> start(const HttpConfig& config,
                                                                 HttpHandler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] uint16_t port() const;

  // From here on every response closes its connection, and idle connections are closed.
  void begin_drain();
  // Takes no more connections, gives the open ones until `deadline` to send what they have, closes them and
  // returns when all threads have ended.
  void stop(std::chrono::steady_clock::time_point deadline);

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace nemoforge::server
