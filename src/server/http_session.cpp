#include "server/http_session.h"

#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "server/api_error.h"

namespace nemoforge::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

// How long a client may take to notice that the connection is closed.
constexpr std::chrono::seconds kLinger{2};

// One request's side of the session.
class SessionExchange : public Exchange {
 public:
  SessionExchange(std::shared_ptr<HttpSession> session, uint64_t number)
      : session_(std::move(session)), number_(number) {}
  void respond(HttpResponse response) override { session_->respond(number_, std::move(response)); }
  void begin_stream(HttpResponse head) override { session_->begin_stream(number_, std::move(head)); }
  void write(std::string bytes) override { session_->write(number_, std::move(bytes)); }
  void end() override { session_->end(number_); }
  void on_disconnect(std::function<void()> callback) override {
    session_->on_disconnect(number_, std::move(callback));
  }

 private:
  std::shared_ptr<HttpSession> session_;
  uint64_t number_;
};

std::string field(const http::fields& fields, const char* name) {
  const auto found = fields.find(name);
  return found == fields.end() ? std::string() : std::string(found->value());
}

}  // namespace

HttpSession::HttpSession(asio::ip::tcp::socket socket, std::shared_ptr<SessionContext> context)
    : context_(std::move(context)), stream_(std::move(socket), context_->config.tls.get()) {
  error_code ignored;
  const auto endpoint = stream_.socket().remote_endpoint(ignored);
  if (!ignored) peer_ = endpoint.address().to_string();
  // Tokens go out as they come.
  stream_.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
}

template <typename Task>
void HttpSession::post(Task task) {
  asio::post(stream_.get_executor(),
             [self = shared_from_this(), task = std::move(task)]() mutable { task(*self); });
}

void HttpSession::start() {
  post([](HttpSession& self) { self.stream_.has_tls() ? self.handshake() : self.read_header(); });
}

void HttpSession::close_if_idle() {
  post([](HttpSession& self) {
    if (self.state_ == State::kIdle && self.number_ > 0) self.close();
  });
}

void HttpSession::close_if_overdue(std::chrono::steady_clock::time_point now) {
  if (now.time_since_epoch().count() < deadline_ns_) return;
  post([](HttpSession& self) {
    if (std::chrono::steady_clock::now().time_since_epoch().count() >= self.deadline_ns_) self.close();
  });
}

void HttpSession::close_now() {
  post([](HttpSession& self) { self.close(); });
}

void HttpSession::refuse() {
  post([](HttpSession& self) {
    if (self.stream_.has_tls()) return self.close();
    self.state_ = State::kAnswering;
    self.respond(self.number_, error_response({503, "the server has too many connections", {}}));
  });
}

void HttpSession::set_deadline(std::chrono::seconds timeout) {
  deadline_ns_ = (std::chrono::steady_clock::now() + timeout).time_since_epoch().count();
}

void HttpSession::handshake() {
  set_deadline(context_->config.handshake_timeout);
  stream_.async_handshake([self = shared_from_this()](error_code failure) {
    if (self->state_ == State::kClosed) return;
    if (failure) return self->close();  // OpenSSL has told the client why
    self->read_header();
  });
}

void HttpSession::read_header() {
  state_ = State::kIdle;
  if (context_->draining && number_ > 0) return close();
  parser_.emplace();
  parser_->header_limit(context_->config.max_header_bytes);
  parser_->body_limit(context_->config.max_body_bytes);
  set_deadline(buffer_.size() > 0 ? context_->config.read_timeout : context_->config.idle_timeout);
  // Headers dribbled byte by byte end with the idle deadline, which is set once a request.
  http::async_read_header(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](error_code failure, size_t) { self->on_header(failure); });
}

void HttpSession::on_header(const error_code& failure) {
  if (state_ == State::kClosed) return;
  if (failure) return fail_request(failure);
  state_ = State::kReading;
  set_deadline(context_->config.read_timeout);
  const auto& header = parser_->get();
  is_http_1_0_ = header.version() < 11;
  keep_alive_ = header.keep_alive();
  is_head_request_ = header.method() == http::verb::head;
  if (boost::beast::iequals(header[http::field::expect], "100-continue")) {
    const auto text = std::make_shared<std::string>("HTTP/1.1 100 Continue\r\n\r\n");
    asio::async_write(stream_, asio::buffer(*text),
                      [self = shared_from_this(), text](error_code sent, size_t) {
                        if (self->state_ == State::kClosed) return;
                        if (sent) return self->close();
                        self->read_body();
                      });
    return;
  }
  read_body();
}

void HttpSession::read_body() {
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](error_code failure, size_t) { self->on_body(failure); });
}

void HttpSession::on_body(const error_code& failure) {
  if (state_ == State::kClosed) return;
  if (failure) return fail_request(failure);
  dispatch();
}

void HttpSession::dispatch() {
  clear_deadline();
  auto message = parser_->release();
  parser_.reset();
  ++number_;
  state_ = State::kAnswering;
  answer_complete_ = is_stream_ = is_chunked_ = false;
  HttpRequest request;
  request.method = std::string(message.method_string());
  const auto target = message.target();
  request.path = std::string(target.substr(0, target.find('?')));
  request.authorization = field(message, "Authorization");
  request.origin = field(message, "Origin");
  request.request_id = field(message, "X-Request-Id");
  request.peer = peer_;
  request.body = std::move(message.body());
  watch();
  context_->handler(std::move(request), std::make_shared<SessionExchange>(shared_from_this(), number_));
}

void HttpSession::watch() {
  if (is_watching_ || buffer_.size() > 0) return;
  is_watching_ = true;
  stream_.async_read_some(buffer_.prepare(4096),
                          [self = shared_from_this()](error_code failure, size_t num_bytes) {
                            self->on_early_bytes(failure, num_bytes);
                          });
}

void HttpSession::on_early_bytes(const error_code& failure, size_t num_bytes) {
  is_watching_ = false;
  if (state_ == State::kClosed) return;
  if (failure) return close();
  if (state_ == State::kLingering) return watch();  // discards
  buffer_.commit(num_bytes);
  if (state_ == State::kIdle) read_header();
}

void HttpSession::fail_request(const error_code& failure) {
  ApiError error{400, "the request is not HTTP/1.1: " + failure.message(), {}};
  if (failure == http::error::body_limit) {
    error = {
        413, fmt::format("the request's body is larger than {} bytes", context_->config.max_body_bytes), {}};
  } else if (failure == http::error::header_limit) {
    error = {431,
             fmt::format("the request's header is larger than {} bytes", context_->config.max_header_bytes),
             {}};
  } else if (failure.category() != http::make_error_code(http::error::bad_method).category() ||
             failure == http::error::end_of_stream || failure == http::error::partial_message) {
    return close();  // the client has gone
  }
  state_ = State::kAnswering;
  ++number_;
  answer_complete_ = is_stream_ = is_chunked_ = false;
  keep_alive_ = false;
  respond(number_, error_response(error));
}

void HttpSession::respond(uint64_t number, HttpResponse response) {
  post([number, response = std::move(response)](HttpSession& self) {
    if (!self.is_answering(number) || self.answer_complete_) return;
    if (response.close) self.keep_alive_ = false;
    self.queue_head(response, true);
    if (!self.is_head_request_) self.unsent_ += response.body;
    self.finish_answer();
  });
}

void HttpSession::begin_stream(uint64_t number, HttpResponse head) {
  post([number, head = std::move(head)](HttpSession& self) {
    if (!self.is_answering(number)) return;
    self.is_stream_ = true;
    // A client of HTTP/1.0 knows no chunks: the end of the connection is the end of the stream.
    self.is_chunked_ = !self.is_http_1_0_;
    if (self.is_http_1_0_) self.keep_alive_ = false;
    self.queue_head(head, false);
    self.pump();
  });
}

void HttpSession::write(uint64_t number, std::string bytes) {
  post([number, bytes = std::move(bytes)](HttpSession& self) {
    if (!self.is_answering(number) || bytes.empty()) return;
    if (self.unsent_.size() + bytes.size() > self.context_->config.max_unsent_bytes) return self.close();
    if (self.is_chunked_) {
      fmt::format_to(std::back_inserter(self.unsent_), "{:x}\r\n", bytes.size());
      self.unsent_ += bytes;
      self.unsent_ += "\r\n";
    } else {
      self.unsent_ += bytes;
    }
    self.pump();
  });
}

void HttpSession::end(uint64_t number) {
  post([number](HttpSession& self) {
    if (!self.is_answering(number)) return;
    if (self.is_chunked_) self.unsent_ += "0\r\n\r\n";
    self.finish_answer();
  });
}

void HttpSession::on_disconnect(uint64_t number, std::function<void()> callback) {
  post([number, callback = std::move(callback)](HttpSession& self) mutable {
    if (self.is_answering(number)) {
      if (!self.answer_complete_) self.on_disconnect_ = std::move(callback);
    } else if (self.state_ == State::kClosed && number == self.number_) {
      callback();
    }
  });
}

void HttpSession::queue_head(const HttpResponse& head, bool has_length) {
  if (context_->draining) keep_alive_ = false;
  auto out = std::back_inserter(unsent_);
  const auto reason = http::obsolete_reason(static_cast<http::status>(head.status));
  fmt::format_to(out, "HTTP/1.1 {} {}\r\n", head.status, std::string_view(reason.data(), reason.size()));
  if (!head.content_type.empty()) fmt::format_to(out, "Content-Type: {}\r\n", head.content_type);
  if (has_length) {
    fmt::format_to(out, "Content-Length: {}\r\n", head.body.size());
  } else if (is_chunked_) {
    unsent_ += "Transfer-Encoding: chunked\r\n";
  }
  if (!keep_alive_) {
    unsent_ += "Connection: close\r\n";
  } else if (is_http_1_0_) {
    unsent_ += "Connection: keep-alive\r\n";
  }
  for (const auto& [name, value] : head.headers) fmt::format_to(out, "{}: {}\r\n", name, value);
  unsent_ += "\r\n";
}

void HttpSession::finish_answer() {
  answer_complete_ = true;
  on_disconnect_ = {};
  pump();
}

void HttpSession::pump() {
  if (is_writing_ || state_ == State::kClosed) return;
  if (num_sent_ == sending_.size()) {
    sending_.clear();
    sending_.swap(unsent_);
    num_sent_ = 0;
  }
  if (sending_.empty()) {
    clear_deadline();
    if (answer_complete_) after_answer();
    return;
  }
  is_writing_ = true;
  set_deadline(context_->config.write_timeout);
  stream_.async_write_some(asio::buffer(sending_) + num_sent_,
                           [self = shared_from_this()](error_code failure, size_t num_bytes) {
                             self->on_written(failure, num_bytes);
                           });
}

void HttpSession::on_written(const error_code& failure, size_t num_bytes) {
  is_writing_ = false;
  if (state_ == State::kClosed) return;
  if (failure) return close();
  num_sent_ += num_bytes;
  pump();
}

void HttpSession::after_answer() {
  if (!keep_alive_) return linger();
  if (!is_watching_) return read_header();
  // The read under way brings the next request, or the client's goodbye.
  state_ = State::kIdle;
  if (context_->draining) return close();
  set_deadline(context_->config.idle_timeout);
}

// Says goodbye and waits for the client's: to close with bytes unread could cost it the answer.
void HttpSession::linger() {
  state_ = State::kLingering;
  buffer_.clear();
  set_deadline(kLinger);
  stream_.async_finish([self = shared_from_this()] {
    if (self->state_ == State::kLingering) self->watch();
  });
}

void HttpSession::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  clear_deadline();
  stream_.close();
  if (on_disconnect_) std::exchange(on_disconnect_, {})();
}

}  // namespace nemoforge::server
