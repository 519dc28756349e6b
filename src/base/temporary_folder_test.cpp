#include "base/temporary_folder.h"

#include <filesystem>
#include <fstream>
#include <utility>

#include <gtest/gtest.h>

namespace nemoforge {
namespace {

namespace fs = std::filesystem;

TEST(TemporaryFolder, goes_with_the_object_and_what_is_in_it) {
  std::string path;
  {
    const TemporaryFolder folder = TemporaryFolder::create().value();
    path = folder.path();
    std::ofstream(folder.path("file")) << "text";
    EXPECT_TRUE(fs::exists(path + "/file"));
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(TemporaryFolder, moves_once) {
  TemporaryFolder first = TemporaryFolder::create().value();
  const std::string path = first.path();
  {
    const TemporaryFolder second = std::move(first);
    EXPECT_EQ(second.path(), path);
    EXPECT_TRUE(fs::exists(path));
  }
  EXPECT_FALSE(fs::exists(path));
}

}  // namespace
}  // namespace nemoforge
