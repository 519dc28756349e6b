#include "server/http_session.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/http/error.hpp>
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
constexpr size_t kReadBytes = 4096;
constexpr size_t kBodyReadBytes = 65536;

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

// RFC 9112, section 2.2: line breaks before a request are left over from the one before.
void skip_line_breaks(boost::beast::flat_buffer& buffer) {
  while (buffer.size() > 0) {
    const char first = *static_cast<const char*>(buffer.data().data());
    if (first != '\r' && first != '\n') return;
    buffer.consume(1);
  }
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// The path of a request's target, which may be a whole URL; what is no escape stays as it is.
std::string path_of(std::string_view target) {
  if (const size_t scheme = target.find("://"); scheme != std::string_view::npos && target[0] != '/') {
    target.remove_prefix(std::min(target.find('/', scheme + 3), target.size()));
  }
  target = target.substr(0, target.find('?'));
  std::string path;
  for (size_t i = 0; i < target.size(); ++i) {
    const int high = target[i] == '%' && i + 2 < target.size() ? hex_digit(target[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(target[i + 2]) : -1;
    path += low >= 0 ? static_cast<char>(high * 16 + low) : target[i];
    if (low >= 0) i += 2;
  }
  return path;
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
  post([](HttpSession& self) { self.stream_.has_tls() ? self.handshake() : self.begin_request(); });
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
    self->begin_request();
  });
}

void HttpSession::begin_request() {
  state_ = State::kIdle;
  if (context_->draining && number_ > 0) return close();
  answer_complete_ = is_stream_ = is_chunked_ = false;
  parser_.emplace();
  parser_->header_limit(context_->config.max_header_bytes);
  parser_->body_limit(context_->config.max_body_bytes);
  // Headers dribbled byte by byte end with this deadline, which is set once a request.
  set_deadline(buffer_.size() > 0 ? context_->config.read_timeout : context_->config.idle_timeout);
  parse();
}

// Takes what has been read of a request.
void HttpSession::parse() {
  if (!parser_->got_some()) skip_line_breaks(buffer_);
  while (buffer_.size() > 0 && !parser_->is_done()) {
    error_code failure;
    const size_t num_used = parser_->put(buffer_.data(), failure);
    buffer_.consume(num_used);
    if (failure == http::error::need_more) break;
    if (failure) return fail_request(failure);
    if (state_ == State::kIdle && parser_->is_header_done()) on_header();
  }
  parser_->is_done() ? dispatch() : read_more();
}

void HttpSession::on_header() {
  state_ = State::kReading;
  set_deadline(context_->config.read_timeout);
  const auto& header = parser_->get();
  is_http_1_0_ = header.version() < 11;
  keep_alive_ = header.keep_alive();
  if (boost::beast::iequals(header[http::field::expect], "100-continue") && !parser_->is_done()) {
    unsent_ += "HTTP/1.1 100 Continue\r\n\r\n";
    pump();
  }
}

HttpRequest HttpSession::request_head() const {
  const auto& header = parser_->get();
  HttpRequest request;
  request.method = std::string(header.method_string());
  request.path = path_of({header.target().data(), header.target().size()});
  request.authorization = field(header, "Authorization");
  request.content_type = field(header, "Content-Type");
  request.origin = field(header, "Origin");
  request.request_id = field(header, "X-Request-Id");
  request.requested_headers = field(header, "Access-Control-Request-Headers");
  request.peer = peer_;
  return request;
}

void HttpSession::begin_answer(HttpRequest&& request) {
  clear_deadline();
  parser_.reset();
  ++number_;
  state_ = State::kAnswering;
  is_head_request_ = request.method == "HEAD";
  if (!request.refusal) read_more();
  context_->handler(std::move(request), std::make_shared<SessionExchange>(shared_from_this(), number_));
}

void HttpSession::dispatch() {
  HttpRequest request = request_head();
  request.body = std::move(parser_->get().body());
  begin_answer(std::move(request));
}

void HttpSession::fail_request(const error_code& failure) {
  HttpRequest request = request_head();
  request.refusal = HttpRefusal{400, "the request is not HTTP/1.1: " + failure.message()};
  if (failure == http::error::body_limit) {
    request.refusal = {
        413, fmt::format("the request's body is larger than {} bytes", context_->config.max_body_bytes)};
  } else if (failure == http::error::header_limit) {
    request.refusal = {
        431, fmt::format("the request's header is larger than {} bytes", context_->config.max_header_bytes)};
  }
  keep_alive_ = false;
  begin_answer(std::move(request));
}

void HttpSession::read_more() {
  const size_t max_ahead = context_->config.max_header_bytes + context_->config.max_body_bytes;
  if (is_reading_ || buffer_.size() >= max_ahead) return;
  is_reading_ = true;
  incoming_.resize(state_ == State::kReading ? kBodyReadBytes : kReadBytes);
  stream_.async_read_some(asio::buffer(incoming_),
                          [self = shared_from_this()](error_code failure, size_t num_bytes) {
                            self->on_bytes(failure, num_bytes);
                          });
}

void HttpSession::on_bytes(const error_code& failure, size_t num_bytes) {
  is_reading_ = false;
  if (state_ == State::kClosed) return;
  if (failure) return close();  // the client has gone
  if (state_ != State::kLingering)
    buffer_.commit(asio::buffer_copy(buffer_.prepare(num_bytes), asio::buffer(incoming_, num_bytes)));
  const bool takes_request = state_ == State::kIdle || state_ == State::kReading;
  takes_request ? parse() : read_more();
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
    state_ == State::kReading ? set_deadline(context_->config.read_timeout) : clear_deadline();
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
  keep_alive_ ? begin_request() : linger();
}

// Says goodbye and waits for the client's: to close with bytes unread could cost it the answer.
void HttpSession::linger() {
  state_ = State::kLingering;
  buffer_.clear();
  set_deadline(kLinger);
  stream_.async_finish([self = shared_from_this()] {
    if (self->state_ == State::kLingering) self->read_more();
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
