#include "verify/worker_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

namespace nemoforge::verify {
namespace {

constexpr size_t kMaxKeptOutput = size_t{64} << 10;
constexpr int64_t kFloodBytes = int64_t{64} << 20;
constexpr size_t kMaxJsonBytes = size_t{1} << 20;
constexpr int kChannelFd = 3;
constexpr int kSharedFd = 4;
constexpr int kFirstFreeFd = 5;

void close_fd(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
}

void limit(__rlimit_resource resource, int64_t value) {
  const rlimit bound{static_cast<rlim_t>(value), static_cast<rlim_t>(value)};
  setrlimit(resource, &bound);
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

// What the child needs, made before the fork: between fork and exec only system calls are allowed.
struct ChildPlan {
  std::vector<char*> argv;
  std::vector<char*> environment;
  std::array<int, 5> sources;  // for descriptors 0 to 4; -1: closed
};

[[noreturn]] void become_child(const WorkerCommand& command, const ChildPlan& plan) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);
  // Two steps, so that no source is overwritten before it was copied.
  std::array<int, 5> high{};
  for (size_t i = 0; i < plan.sources.size(); ++i) {
    high[i] = plan.sources[i] < 0 ? -1 : fcntl(plan.sources[i], F_DUPFD, 64);
  }
  for (size_t i = 0; i < plan.sources.size(); ++i) {
    if (high[i] >= 0) {
      dup2(high[i], static_cast<int>(i));
    } else {
      close(static_cast<int>(i));
    }
  }
  syscall(SYS_close_range, kFirstFreeFd, ~0U, 0);
  // Where the machine runs out of memory, this process and what it starts go first.
  const int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (score >= 0) static_cast<void>(!write(score, "1000", 4));
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NOFILE, 512);
  limit(RLIMIT_NPROC, 512);
  limit(RLIMIT_FSIZE, int64_t{1} << 30);
  if (command.max_address_space_bytes > 0) limit(RLIMIT_AS, command.max_address_space_bytes);
  if (command.max_data_bytes > 0) limit(RLIMIT_DATA, command.max_data_bytes);
  if (command.max_cpu_seconds > 0) limit(RLIMIT_CPU, command.max_cpu_seconds);
  execve(plan.argv[0], plan.argv.data(), plan.environment.data());
  _exit(127);
}

}  // namespace

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept {
  *this = std::move(other);
}

WorkerProcess& WorkerProcess::operator=(WorkerProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(channel_, other.channel_);
  std::swap(output_, other.output_);
  std::swap(status_, other.status_);
  return *this;
}

WorkerProcess::~WorkerProcess() {
  kill();
  close_all();
}

void WorkerProcess::close_all() {
  close_fd(channel_);
  close_fd(output_[0].fd);
  close_fd(output_[1].fd);
}

Result<WorkerProcess> WorkerProcess::start(const WorkerCommand& command) {
  NF_CHECK(!command.argv.empty());
  std::array<int, 2> channel{-1, -1};
  std::array<int, 2> out{-1, -1};
  std::array<int, 2> err{-1, -1};
  int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  WorkerProcess worker;
  const bool ready = null_fd >= 0 &&
                     socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel.data()) == 0 &&
                     pipe2(out.data(), O_CLOEXEC) == 0 && pipe2(err.data(), O_CLOEXEC) == 0;
  const ChildPlan plan{
      pointers(command.argv),
      pointers(command.environment),
      {command.stdin_fd >= 0 ? command.stdin_fd : null_fd, out[1], err[1], channel[1], command.shared_fd}};
  static_assert(kChannelFd == 3 && kSharedFd == 4);
  const pid_t pid = ready ? fork() : -1;
  if (pid == 0) become_child(command, plan);
  const int failure = errno;
  worker.channel_ = channel[0];
  worker.output_[0].fd = out[0];
  worker.output_[1].fd = err[0];
  close_fd(channel[1]);
  close_fd(out[1]);
  close_fd(err[1]);
  close_fd(null_fd);
  if (pid < 0) {
    return error(ErrorCode::kIo, "cannot start " + command.argv[0] + ": " + std::strerror(failure));
  }
  setpgid(pid, pid);  // both sides, so that it holds whoever comes first
  worker.pid_ = pid;
  for (const int fd : {worker.channel_, worker.output_[0].fd, worker.output_[1].fd}) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
  }
  return worker;
}

void WorkerProcess::drain(Capture& capture) {
  std::array<char, 65536> buffer;
  while (capture.fd >= 0) {
    const ssize_t length = read(capture.fd, buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return;
    if (length == 0) {
      close_fd(capture.fd);
      return;
    }
    capture.total_bytes += length;
    const size_t room = kMaxKeptOutput - std::min(kMaxKeptOutput, capture.text.size());
    capture.text.append(buffer.data(), std::min(static_cast<size_t>(length), room));
    if (capture.total_bytes > kFloodBytes) return;
  }
}

void WorkerProcess::forget_output() {
  for (Capture& capture : output_) {
    drain(capture);
    capture.text.clear();
    capture.total_bytes = 0;
  }
}

tl::expected<void, ExchangeFailure> WorkerProcess::wait_for_channel(short events,
                                                                    Clock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return tl::unexpected(ExchangeFailure::kTimeout);
    std::array<pollfd, 3> fds{pollfd{channel_, events, 0}, pollfd{output_[0].fd, POLLIN, 0},
                              pollfd{output_[1].fd, POLLIN, 0}};
    const int ready = poll(fds.data(), fds.size(), static_cast<int>(std::min<int64_t>(left, 1000)));
    if (ready < 0 && errno != EINTR) return tl::unexpected(ExchangeFailure::kDied);
    if (ready <= 0) continue;
    for (size_t i = 0; i < 2; ++i) {
      if (fds[i + 1].revents != 0) drain(output_[i]);
      if (output_[i].total_bytes > kFloodBytes) return tl::unexpected(ExchangeFailure::kFlood);
    }
    if ((fds[0].revents & (events | POLLHUP | POLLERR)) != 0) return {};
  }
}

tl::expected<void, ExchangeFailure> WorkerProcess::read_exactly(char* bytes, size_t size,
                                                                Clock::time_point deadline) {
  while (size > 0) {
    if (auto ready = wait_for_channel(POLLIN, deadline); !ready) return ready;
    const ssize_t length = read(channel_, bytes, size);
    if (length < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (length <= 0) return tl::unexpected(ExchangeFailure::kDied);
    bytes += length;
    size -= static_cast<size_t>(length);
  }
  return {};
}

tl::expected<void, ExchangeFailure> WorkerProcess::send(const io::Json& message, std::string_view blob,
                                                        Clock::duration timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  const std::string text = io::dump_json(message);
  const std::array<uint32_t, 2> header{static_cast<uint32_t>(text.size()),
                                       static_cast<uint32_t>(blob.size())};
  std::string bytes(reinterpret_cast<const char*>(header.data()), sizeof(header));
  bytes.append(text).append(blob);
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t length = ::send(channel_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (length > 0) {
      sent += static_cast<size_t>(length);
    } else if (errno == EAGAIN) {
      if (auto ready = wait_for_channel(POLLOUT, deadline); !ready) return ready;
    } else if (errno != EINTR) {
      return tl::unexpected(ExchangeFailure::kDied);
    }
  }
  return {};
}

tl::expected<Frame, ExchangeFailure> WorkerProcess::receive(Clock::duration timeout, size_t max_blob_bytes) {
  const Clock::time_point deadline = Clock::now() + timeout;
  std::array<uint32_t, 2> header{};
  if (auto status = read_exactly(reinterpret_cast<char*>(header.data()), sizeof(header), deadline); !status) {
    return tl::unexpected(status.error());
  }
  if (header[0] > kMaxJsonBytes || header[1] > max_blob_bytes) {
    return tl::unexpected(ExchangeFailure::kMalformed);
  }
  std::string text(header[0], '\0');
  Frame frame;
  frame.blob.resize(header[1]);
  if (auto status = read_exactly(text.data(), text.size(), deadline); !status) {
    return tl::unexpected(status.error());
  }
  if (auto status = read_exactly(frame.blob.data(), frame.blob.size(), deadline); !status) {
    return tl::unexpected(status.error());
  }
  auto message = io::parse_json(text, {.max_depth = 32});
  if (!message || !message->is_object()) return tl::unexpected(ExchangeFailure::kMalformed);
  frame.message = std::move(*message);
  return frame;
}

tl::expected<Frame, ExchangeFailure> WorkerProcess::exchange(const io::Json& message, std::string_view blob,
                                                             Clock::duration timeout, size_t max_blob_bytes) {
  if (auto sent = send(message, blob, timeout); !sent) return tl::unexpected(sent.error());
  return receive(timeout, max_blob_bytes);
}

tl::expected<ExitStatus, ExchangeFailure> WorkerProcess::wait(Clock::duration timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  // The child's end closes its side of the channel, which is what this waits for; then it is reaped.
  while (true) {
    if (auto ready = wait_for_channel(POLLIN, deadline); !ready) return tl::unexpected(ready.error());
    std::array<char, 4096> ignored;
    const ssize_t length = read(channel_, ignored.data(), ignored.size());
    if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR)) break;
  }
  drain(output_[0]);
  drain(output_[1]);
  int status = 0;
  if (pid_ > 0 && waitpid(pid_, &status, 0) == pid_) {
    pid_ = -1;
    status_ = {WIFSIGNALED(status), WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)};
  }
  return status_;
}

ExitStatus WorkerProcess::kill() {
  if (pid_ > 0) {
    // The group: a sandboxed child's process namespace dies with its first process; an unsandboxed child
    // leads a group of its own.
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    status_ = {WIFSIGNALED(status), WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)};
    drain(output_[0]);
    drain(output_[1]);
  }
  return status_;
}

}  // namespace nemoforge::verify
