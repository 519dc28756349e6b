#include "io/file.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/integers.h"

namespace nemoforge::io {
namespace {

tl::unexpected<Error> os_error(const std::string& path, const char* action) {
  const int code = errno;
  return error(code == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
               path + ": cannot " + action + ": " + std::strerror(code));
}

struct OpenFile {
  explicit OpenFile(int fd) : fd(fd) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (fd >= 0) ::close(fd);
  }
  int fd;
};

// Opens for reading and returns the size; a folder, pipe or device is refused before it can block or mislead.
Result<int64_t> regular_file_size(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return os_error(path, "stat");
  if (!S_ISREG(info.st_mode)) return error(ErrorCode::kInvalidData, path + ": not a regular file");
  return static_cast<int64_t>(info.st_size);
}

}  // namespace

Result<std::string> read_file(const std::string& path, int64_t max_bytes) {
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) return os_error(path, "open");
  NF_TRY(const int64_t size, regular_file_size(file.fd, path));
  if (size > max_bytes) {
    return error(ErrorCode::kInvalidData, path + ": " + std::to_string(size) +
                                              " bytes, more than the limit of " + std::to_string(max_bytes));
  }
  std::string text(static_cast<size_t>(size), '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t count = ::read(file.fd, text.data() + filled, text.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return os_error(path, "read");
    if (count == 0) break;
    filled += static_cast<size_t>(count);
  }
  text.resize(filled);
  return text;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) return os_error(path, "open");
  NF_TRY(const int64_t size, regular_file_size(file.fd, path));
  MappedFile mapped;
  mapped.path_ = path;
  if (size == 0) return mapped;
  void* data = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) return os_error(path, "map");
  mapped.data_ = static_cast<const std::byte*>(data);
  mapped.size_ = static_cast<size_t>(size);
  return mapped;
}

void MappedFile::forget(std::span<const std::byte> bytes) const {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  // Whole pages only: what shares a page with these bytes may still be in use.
  const uintptr_t begin = round_up(reinterpret_cast<uintptr_t>(bytes.data()), page);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size()) / page * page;
  // A mere hint: where it fails, nothing is lost but memory.
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

AtomicFile::AtomicFile(int fd, std::string path, std::string temporary)
    : fd_(fd), path_(std::move(path)), temporary_(std::move(temporary)) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  static std::atomic<uint64_t> num_created = 0;
  std::string temporary;
  int fd = -1;
  do {
    temporary = path + ".tmp." + std::to_string(::getpid()) + "." + std::to_string(++num_created);
    fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EEXIST);
  if (fd < 0) return os_error(path, "create");
  return AtomicFile(fd, path, temporary);
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return os_error(path_, "write");
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

Status AtomicFile::write(std::string_view text) {
  return write(std::as_bytes(std::span(text.data(), text.size())));
}

Status AtomicFile::commit() {
  if (::fsync(fd_) != 0) return os_error(path_, "sync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return os_error(path_, "rename into place");
  ::close(std::exchange(fd_, -1));
  // The rename itself is durable only when the folder is synced.
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  const OpenFile directory(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.fd >= 0 && ::fsync(directory.fd) != 0) return os_error(path_, "sync the folder of");
  return {};
}

Status write_file_atomically(const std::string& path, std::string_view text) {
  NF_TRY(AtomicFile file, AtomicFile::create(path));
  NF_RETURN_IF_ERROR(file.write(text));
  return file.commit();
}

}  // namespace nemoforge::io
