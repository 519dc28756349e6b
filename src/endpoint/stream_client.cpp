#include "endpoint/stream_client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/integers.h"
#include "base/interrupt.h"

namespace nemoforge::endpoint {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPoll_ms = 200;            // how often signals are looked at
constexpr size_t kMaxHeadBytes = 65536;  // of an answer that is not the stream that was asked for
constexpr std::string_view kEvent = "\ndata: ";
constexpr std::string_view kDone = "[DONE]";
constexpr std::string_view kEndOfChunks = "\r\n0\r\n\r\n";

Error io_error(const char* what) {
  return Error{ErrorCode::kIo, fmt::format("{}: {}", what, std::strerror(errno)), {}};
}

struct FileDescriptor {
  explicit FileDescriptor(int value) : fd(value) {}
  ~FileDescriptor() {
    if (fd >= 0) ::close(fd);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  const int fd;
};

struct Connection {
  explicit Connection(int fd) : socket(fd) {}
  FileDescriptor socket;
  size_t body_idx = 0;
  std::string rest;  // bytes in which an event or the end may have begun; at first the answer's head
  bool has_head = false;
};

class StreamClient {
 public:
  StreamClient(uint16_t port, const std::string& path, const std::vector<std::string>& bodies)
      : port_(port), path_(path), bodies_(bodies), answers_(bodies.size()), epoll_(::epoll_create1(0)) {}

  Result<std::vector<StreamedAnswer>> run(size_t num_connections) {
    if (epoll_.fd < 0) return tl::unexpected(io_error("epoll"));
    for (size_t i = 0; i < std::min(num_connections, bodies_.size()); ++i) NF_RETURN_IF_ERROR(connect());
    std::array<epoll_event, 256> ready{};
    while (num_done_ < bodies_.size()) {
      if (interrupted()) return error(ErrorCode::kCancelled, "interrupted");
      const int count = ::epoll_wait(epoll_.fd, ready.data(), static_cast<int>(ready.size()), kPoll_ms);
      if (count < 0 && errno != EINTR) return tl::unexpected(io_error("epoll"));
      for (int i = 0; i < count; ++i) {
        NF_RETURN_IF_ERROR(receive(*static_cast<Connection*>(ready[static_cast<size_t>(i)].data.ptr)));
      }
    }
    return std::move(answers_);
  }

 private:
  Status connect() {
    auto connection = std::make_unique<Connection>(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int fd = connection->socket.fd;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      return tl::unexpected(io_error("connect"));
    }
    epoll_event interest{};
    interest.events = EPOLLIN;
    interest.data.ptr = connection.get();
    if (::epoll_ctl(epoll_.fd, EPOLL_CTL_ADD, fd, &interest) != 0) return tl::unexpected(io_error("epoll"));
    connections_.push_back(std::move(connection));
    return send_next(*connections_.back());
  }

  // Nothing where all bodies have been sent.
  Status send_next(Connection& connection) {
    if (next_body_ == bodies_.size()) return {};
    connection.body_idx = next_body_++;
    connection.has_head = false;
    connection.rest.clear();
    const std::string& body = bodies_[connection.body_idx];
    const std::string message = fmt::format(
        "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-Request-Id: {}\r\n"
        "Content-Length: {}\r\n\r\n{}",
        path_, connection.body_idx, body.size(), body);
    for (size_t sent = 0; sent < message.size();) {
      const ssize_t count =
          ::send(connection.socket.fd, message.data() + sent, message.size() - sent, MSG_NOSIGNAL);
      if (count < 0) return tl::unexpected(io_error("send"));
      sent += static_cast<size_t>(count);
    }
    return {};
  }

  Status receive(Connection& connection) {
    const ssize_t count = ::recv(connection.socket.fd, buffer_.data(), buffer_.size(), 0);
    if (count < 0) return tl::unexpected(io_error("recv"));
    if (count == 0) return error(ErrorCode::kUnavailable, "the server closed the connection");
    const auto now = Clock::now();
    std::string& rest = connection.rest;
    rest.append(buffer_.data(), static_cast<size_t>(count));
    if (!connection.has_head) NF_RETURN_IF_ERROR(take_head(connection));
    if (!connection.has_head) return {};
    StreamedAnswer& answer = answers_[connection.body_idx];
    // The last bytes, in which an event or the end may begin, wait for those that follow.
    size_t begin = 0;
    for (size_t at = rest.find(kEvent); at != std::string::npos; at = rest.find(kEvent, begin)) {
      if (rest.size() < at + kEvent.size() + kDone.size()) break;
      begin = at + kEvent.size();
      if (!std::string_view(rest).substr(begin).starts_with(kDone)) answer.arrivals.push_back(now);
    }
    if (rest.ends_with(kEndOfChunks)) {
      ++num_done_;
      return send_next(connection);
    }
    const size_t kept = std::max(kEvent.size() + kDone.size(), kEndOfChunks.size()) - 1;
    rest.erase(0, std::max(begin, rest.size() - std::min(rest.size(), kept)));
    return {};
  }

  // Cuts the head off, once it is there.
  static Status take_head(Connection& connection) {
    std::string& rest = connection.rest;
    const size_t end = rest.find("\r\n\r\n");
    if (end == std::string::npos && rest.size() < kMaxHeadBytes) return {};
    const std::string_view head = std::string_view(rest).substr(0, std::min(end, kMaxHeadBytes));
    if (!head.starts_with("HTTP/1.1 200 ") || head.find("text/event-stream") == std::string_view::npos) {
      return error(ErrorCode::kUnavailable, fmt::format("the answer is no stream: {}", rest.substr(0, 400)));
    }
    connection.has_head = true;
    rest.erase(0, end + 2);
    return {};
  }

  const uint16_t port_;
  const std::string& path_;
  const std::vector<std::string>& bodies_;
  std::vector<StreamedAnswer> answers_;
  FileDescriptor epoll_;
  std::vector<std::unique_ptr<Connection>> connections_;
  size_t next_body_ = 0;
  size_t num_done_ = 0;
  std::array<char, 65536> buffer_{};
};

}  // namespace

Result<std::vector<StreamedAnswer>> stream_all(uint16_t port, const std::string& path,
                                               const std::vector<std::string>& bodies,
                                               size_t num_connections) {
  return std::make_unique<StreamClient>(port, path, bodies)->run(num_connections);
}

}  // namespace nemoforge::endpoint
