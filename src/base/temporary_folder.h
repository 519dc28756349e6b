// A folder of our own under the system's for temporary files, gone with the object.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"

namespace nemoforge {

class TemporaryFolder {
 public:
  TemporaryFolder() = default;  // none yet; its path is empty
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
  // Of the file or folder `name` in it.
  [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace nemoforge
