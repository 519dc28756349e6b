#include "verify/temporary_folder.h"

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include <sys/stat.h>

#include "base/rng.h"

namespace nemoforge::verify {

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Result<TemporaryFolder> TemporaryFolder::create() {
  std::string pattern = (std::filesystem::temp_directory_path() / "nemoforge-verify-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr || chmod(pattern.c_str(), 0755) != 0) {
    return error(ErrorCode::kIo, "cannot make a temporary folder " + pattern);
  }
  TemporaryFolder folder;
  folder.path_ = std::move(pattern);
  return folder;
}

std::string random_name() {
  constexpr std::string_view kDigits = "0123456789abcdef";
  uint64_t bits = secret_seed();
  std::string name;
  for (int i = 0; i < 16; ++i, bits >>= 4) name += kDigits[bits & 15];
  return name;
}

}  // namespace nemoforge::verify
