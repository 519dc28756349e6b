#include "io/file.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/temporary_folder.h"

namespace nemoforge::io {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  [[nodiscard]] std::string path(const std::string& name) const { return folder_.path(name); }
  [[nodiscard]] size_t num_entries() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()));
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
};

TEST_F(FileTest, reads_what_was_written_atomically) {
  const std::string text("a\0b\n", 4);
  ASSERT_TRUE(write_file_atomically(path("f"), text));
  EXPECT_EQ(*read_file(path("f")), text);
  ASSERT_TRUE(write_file_atomically(path("f"), "second"));
  EXPECT_EQ(*read_file(path("f")), "second");
  EXPECT_EQ(num_entries(), 1u);
}

TEST_F(FileTest, an_uncommitted_file_leaves_nothing_behind) {
  ASSERT_TRUE(write_file_atomically(path("f"), "kept"));
  {
    auto file = AtomicFile::create(path("f"));
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->write("thrown away"));
  }
  EXPECT_EQ(*read_file(path("f")), "kept");
  EXPECT_EQ(num_entries(), 1u);
}

TEST_F(FileTest, refuses_what_is_missing_too_large_or_not_a_file) {
  EXPECT_EQ(read_file(path("none")).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(write_file_atomically(path("f"), "12345"));
  EXPECT_EQ(read_file(path("f"), 4).error().code, ErrorCode::kInvalidData);
  EXPECT_TRUE(read_file(path("f"), 5));
  EXPECT_EQ(read_file(folder_.path()).error().code, ErrorCode::kInvalidData);
  EXPECT_EQ(MappedFile::open(folder_.path()).error().code, ErrorCode::kInvalidData);
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_file(path("pipe")).error().code, ErrorCode::kInvalidData);
  EXPECT_EQ(MappedFile::open(path("pipe")).error().code, ErrorCode::kInvalidData);
  EXPECT_EQ(AtomicFile::create(path("no/such/folder")).error().code, ErrorCode::kNotFound);
}

TEST_F(FileTest, maps_a_file_and_moves_the_mapping) {
  ASSERT_TRUE(write_file_atomically(path("f"), "hello"));
  ASSERT_TRUE(write_file_atomically(path("empty"), ""));
  auto mapped = MappedFile::open(path("f"));
  ASSERT_TRUE(mapped);
  const auto* data = mapped->bytes().data();
  MappedFile moved = std::move(*mapped);
  EXPECT_EQ(moved.bytes().data(), data);
  EXPECT_EQ(moved.bytes().size(), 5u);
  EXPECT_EQ(moved.path(), path("f"));
  EXPECT_TRUE(MappedFile::open(path("empty"))->bytes().empty());
}

TEST_F(FileTest, forgotten_pages_come_back_from_the_file) {
  std::string text(3 * 4096 + 17, 'x');
  text[5000] = 'y';
  ASSERT_TRUE(write_file_atomically(path("f"), text));
  const auto mapped = MappedFile::open(path("f"));
  ASSERT_TRUE(mapped);
  mapped->forget(mapped->bytes());
  mapped->forget(mapped->bytes().subspan(1, 2));
  EXPECT_EQ(static_cast<char>(mapped->bytes()[5000]), 'y');
}

}  // namespace
}  // namespace nemoforge::io
