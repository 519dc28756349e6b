// A client's bytes: TCP, or TLS over it.
#pragma once

#include <optional>
#include <utility>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>

namespace nemoforge::server {

// What Beast reads from and writes to. Its functions run on the strand of the socket, as do the handlers; of
// reads and of writes one each may be under way.
class ClientStream {
 public:
  using executor_type = boost::asio::ip::tcp::socket::executor_type;

  // Plain TCP where `tls` is null; else `tls` must live on.
  ClientStream(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* tls)
      : socket_(std::move(socket)) {
    if (tls != nullptr) tls_.emplace(socket_, *tls);
  }
  ClientStream(const ClientStream&) = delete;
  ClientStream& operator=(const ClientStream&) = delete;

  executor_type get_executor() { return socket_.get_executor(); }
  boost::asio::ip::tcp::socket& socket() { return socket_; }
  [[nodiscard]] bool has_tls() const { return tls_.has_value(); }

  // Only with TLS, before all else.
  template <typename Handler>
  void async_handshake(Handler&& handler) {
    tls_->async_handshake(boost::asio::ssl::stream_base::server, std::forward<Handler>(handler));
  }

  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_ && !is_finished_) {
      tls_->async_read_some(buffers, std::forward<Handler>(handler));
    } else {
      socket_.async_read_some(buffers, std::forward<Handler>(handler));
    }
  }

  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) {
      tls_->async_write_some(buffers, std::forward<Handler>(handler));
    } else {
      socket_.async_write_some(buffers, std::forward<Handler>(handler));
    }
  }

  // Tells the client that nothing more will be written, then calls `done()`. What is read afterwards is for
  // throwing away: with TLS it is still encrypted.
  template <typename Done>
  void async_finish(Done done) {
    const auto finish = [this, done = std::move(done)](const boost::system::error_code&) {
      is_finished_ = true;
      boost::system::error_code ignored;
      socket_.shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
      done();
    };
    if (tls_) {
      tls_->async_shutdown(finish);
    } else {
      finish({});
    }
  }

  void close() {
    boost::system::error_code ignored;
    socket_.shutdown(boost::asio::ip::tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
  }

 private:
  boost::asio::ip::tcp::socket socket_;
  std::optional<boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>> tls_;
  bool is_finished_ = false;
};

}  // namespace nemoforge::server
