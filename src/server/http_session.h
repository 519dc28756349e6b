// One connection: reads a request, waits for its answer, writes it, reads the next.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "server/client_stream.h"
#include "server/http_exchange.h"
#include "server/http_server.h"

namespace nemoforge::server {

// What the sessions of a server share.
struct SessionContext {
  HttpConfig config;
  HttpHandler handler;
  std::atomic<bool> draining = false;
};

// Its functions run on the session's strand, but for those marked.
//
// A read is under way at all times, while a request is being answered too: it notices a client that goes
// away. What it finds of a next request meanwhile waits for the answer to be complete. Only a client that
// sends more than a whole request ahead is not read from, and noticed by the next write.
class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(boost::asio::ip::tcp::socket socket, std::shared_ptr<SessionContext> context);

  // From any thread.
  void start();
  void close_if_idle();
  void close_if_overdue(std::chrono::steady_clock::time_point now);
  void close_now();
  // Answers with 503 and closes, without reading; with TLS it only closes, since a handshake costs more than
  // it should to say no.
  void refuse();

  // From any thread: the answer of request `number`; ignored where that is not the one being answered.
  void respond(uint64_t number, HttpResponse response);
  void begin_stream(uint64_t number, HttpResponse head);
  void write(uint64_t number, std::string bytes);
  void end(uint64_t number);
  void on_disconnect(uint64_t number, std::function<void()> callback);

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  enum class State { kIdle, kReading, kAnswering, kLingering, kClosed };

  template <typename Task>
  void post(Task task);
  void handshake();
  void begin_request();
  void parse();
  void on_header();
  void begin_answer(HttpRequest&& request);
  void dispatch();
  void fail_request(const boost::system::error_code& failure);
  [[nodiscard]] HttpRequest request_head() const;
  void read_more();
  void on_bytes(const boost::system::error_code& failure, size_t num_bytes);
  void queue_head(const HttpResponse& head, bool has_length);
  void finish_answer();
  void pump();
  void on_written(const boost::system::error_code& failure, size_t num_bytes);
  void after_answer();
  void linger();
  void close();
  void set_deadline(std::chrono::seconds timeout);
  void clear_deadline() { deadline_ns_ = kNever; }
  [[nodiscard]] bool is_answering(uint64_t number) const {
    return state_ == State::kAnswering && number == number_;
  }

  static constexpr int64_t kNever = INT64_MAX;

  std::shared_ptr<SessionContext> context_;  // before what uses its TLS context
  ClientStream stream_;
  std::string peer_;
  std::vector<char> incoming_;  // what a read under way writes into: the buffer may move meanwhile
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  std::atomic<int64_t> deadline_ns_ = kNever;  // of the steady clock

  State state_ = State::kIdle;
  uint64_t number_ = 0;  // of the request
  bool is_reading_ = false;
  bool is_head_request_ = false;
  bool keep_alive_ = false;
  bool is_http_1_0_ = false;
  bool is_stream_ = false;
  bool is_chunked_ = false;
  bool answer_complete_ = false;
  std::function<void()> on_disconnect_;

  bool is_writing_ = false;
  std::string unsent_;   // not yet handed to a write
  std::string sending_;  // being written
  size_t num_sent_ = 0;  // of sending_
};

}  // namespace nemoforge::server
