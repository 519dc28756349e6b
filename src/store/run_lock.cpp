#include "store/run_lock.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace nemoforge::store {
namespace {

// The first line of the lock file: the process id that its holder wrote.
std::string holder_of(int fd) {
  std::array<char, 32> text{};
  const ssize_t length = pread(fd, text.data(), text.size() - 1, 0);
  std::string holder(text.data(), length > 0 ? static_cast<size_t>(length) : 0);
  holder.resize(std::min(holder.find('\n'), holder.size()));
  return holder.empty() ? "of unknown id" : holder;
}

}  // namespace

RunLock::RunLock(RunLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

RunLock& RunLock::operator=(RunLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

RunLock::~RunLock() {
  if (fd_ >= 0) close(fd_);
}

Result<RunLock> RunLock::acquire(const std::string& path) {
  RunLock lock;
  lock.fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock.fd_ < 0) {
    return error(ErrorCode::kIo, path + " cannot be opened: " + std::strerror(errno));
  }
  if (flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return error(ErrorCode::kIo, path + " cannot be locked: " + std::strerror(errno));
    return error(ErrorCode::kUnavailable, path + " is held by process " + holder_of(lock.fd_),
                 "wait for that process to end, or use another run folder");
  }
  const std::string id = std::to_string(getpid()) + "\n";
  if (ftruncate(lock.fd_, 0) != 0 ||
      pwrite(lock.fd_, id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    return error(ErrorCode::kIo, path + " cannot be written: " + std::strerror(errno));
  }
  return lock;
}

}  // namespace nemoforge::store
