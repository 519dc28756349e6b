#include "base/temporary_folder.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include <sys/stat.h>

namespace nemoforge {

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Result<TemporaryFolder> TemporaryFolder::create() {
  std::string pattern = (std::filesystem::temp_directory_path() / "nemoforge-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr || chmod(pattern.c_str(), 0755) != 0) {
    return error(ErrorCode::kIo, "cannot make a temporary folder " + pattern);
  }
  TemporaryFolder folder;
  folder.path_ = std::move(pattern);
  return folder;
}

}  // namespace nemoforge
