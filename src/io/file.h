// Files: whole reads with a limit, read-only mappings, and writes that are either complete or absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace nemoforge::io {

// The whole file. kNotFound where there is none, kInvalidData where it is larger than max_bytes or not a
// regular file.
[[nodiscard]] Result<std::string> read_file(const std::string& path, int64_t max_bytes = int64_t{1} << 30);

// A read-only private mapping of a whole file; move-only.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] static Result<MappedFile> open(const std::string& path);

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Says that these bytes of the mapping will not be read for a while: their pages leave the process's
  // resident memory, and come back from the file when they are read after all.
  void forget(std::span<const std::byte> bytes) const;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

// A file that appears under its name only when commit() succeeds: written to a temporary beside it, synced,
// renamed. A destroyed uncommitted file leaves nothing behind.
class AtomicFile {
 public:
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  // Creates the temporary; the folder must exist.
  [[nodiscard]] static Result<AtomicFile> create(const std::string& path);
  [[nodiscard]] Status write(std::span<const std::byte> bytes);
  [[nodiscard]] Status write(std::string_view text);
  [[nodiscard]] Status commit();

 private:
  AtomicFile(int fd, std::string path, std::string temporary);
  int fd_ = -1;
  std::string path_;
  std::string temporary_;
};

// create + write + commit.
[[nodiscard]] Status write_file_atomically(const std::string& path, std::string_view text);

}  // namespace nemoforge::io
