#include "verify/arena.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/integers.h"

namespace nemoforge::verify {
namespace {

constexpr int64_t kGuardBytes = 4096;
constexpr auto kPoison = std::byte{0xFF};

bool all_poison(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte value) { return value == kPoison; });
}

}  // namespace

Arena::Arena(Arena&& other) noexcept {
  *this = std::move(other);
}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Arena::~Arena() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
  if (fd_ >= 0) close(fd_);
}

Result<Arena> Arena::create() {
  Arena arena;
  arena.fd_ = memfd_create("arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (arena.fd_ < 0) {
    return error(ErrorCode::kIo, std::string("cannot make shared memory: ") + std::strerror(errno));
  }
  return arena;
}

Status Arena::set_size(int64_t bytes) {
  NF_CHECK(bytes_.empty() && bytes > 0);
  if (ftruncate(fd_, bytes) != 0 || fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return error(ErrorCode::kResourceExhausted,
                 "cannot make " + std::to_string(bytes) + " bytes of shared memory: " + std::strerror(errno));
  }
  void* address = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (address == MAP_FAILED) {
    return error(ErrorCode::kResourceExhausted,
                 "cannot map " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
  }
  bytes_ = {static_cast<std::byte*>(address), static_cast<size_t>(bytes)};
  return {};
}

std::span<std::byte> Arena::at(int64_t offset, int64_t size) const {
  NF_CHECK(offset >= 0 && size >= 0 && offset <= this->size() - size) << offset << ' ' << size;
  return bytes_.subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
}

InputSlot::InputSlot(int64_t offset, const std::vector<int64_t>& tensor_bytes)
    : begin_(round_up(offset, kGuardBytes)) {
  int64_t position = begin_;
  for (const int64_t size : tensor_bytes) {
    tensors_.push_back({position + kGuardBytes, size});
    position += kGuardBytes + round_up(size + kGuardBytes, kGuardBytes);
  }
  end_ = position;
}

void InputSlot::fill(const Arena& arena, std::string_view blob) const {
  const auto all = arena.at(begin_, end_ - begin_);
  std::fill(all.begin(), all.end(), kPoison);
  size_t position = 0;
  for (const ArenaTensor& tensor : tensors_) {
    NF_CHECK(position + static_cast<size_t>(tensor.size) <= blob.size());
    std::memcpy(arena.at(tensor.offset, tensor.size).data(), blob.data() + position,
                static_cast<size_t>(tensor.size));
    position += static_cast<size_t>(tensor.size);
  }
}

bool InputSlot::inputs_intact(const Arena& arena, std::string_view blob) const {
  size_t position = 0;
  for (const ArenaTensor& tensor : tensors_) {
    const auto bytes = arena.at(tensor.offset, tensor.size);
    if (std::memcmp(bytes.data(), blob.data() + position, bytes.size()) != 0) return false;
    position += bytes.size();
  }
  return true;
}

bool InputSlot::guards_intact(const Arena& arena) const {
  int64_t position = begin_;
  for (const ArenaTensor& tensor : tensors_) {
    if (!all_poison(arena.at(position, tensor.offset - position))) return false;
    position = tensor.offset + tensor.size;
  }
  return all_poison(arena.at(position, end_ - position));
}

}  // namespace nemoforge::verify
