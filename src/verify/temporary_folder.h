// A folder of our own under the system's for temporary files, gone with the object.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"

namespace nemoforge::verify {

class TemporaryFolder {
 public:
  TemporaryFolder() = default;
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();

  // Readable for others, since a sandbox's user may be another one outside. kIo.
  [[nodiscard]] static Result<TemporaryFolder> create();

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Sixteen digits that nobody can foresee.
[[nodiscard]] std::string random_name();

}  // namespace nemoforge::verify
