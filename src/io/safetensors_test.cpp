#include "io/safetensors.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary_folder.h"
#include "io/safetensors_folder.h"

namespace nemoforge::io {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class SafetensorsTest : public testing::Test {
 protected:
  [[nodiscard]] std::string path(const std::string& name) const { return folder_.path(name); }

  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }

  // A file of this header and this many bytes of data.
  std::string write_raw(const std::string& header, size_t data_bytes,
                        const std::string& name = "f.safetensors") const {
    const uint64_t size = header.size();
    std::string bytes(reinterpret_cast<const char*>(&size), sizeof(size));
    bytes += header;
    bytes += std::string(data_bytes, '\1');
    return write(name, bytes);
  }

  void expect_refused(const std::string& header, size_t data_bytes, const std::string& why) const {
    const std::string file = write_raw(header, data_bytes);
    const auto opened = SafetensorsFile::open(file);
    ASSERT_FALSE(opened) << header;
    EXPECT_EQ(opened.error().code, ErrorCode::kInvalidData);
    EXPECT_THAT(opened.error().message, testing::StartsWith(file + ": "));
    EXPECT_THAT(opened.error().message, HasSubstr(why));
    EXPECT_EQ(opened.error().message.find('\n'), std::string::npos);
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
};

TEST_F(SafetensorsTest, reads_back_what_it_wrote) {
  const float floats[] = {1, 2, 3, 4, 5, 6};
  const uint8_t bytes[] = {7, 8, 9};
  const NamedTensor tensors[] = {{"u8", ConstTensorView(bytes, {3})},
                                 {"f32", ConstTensorView(floats, {2, 3})},
                                 {"scalar", ConstTensorView(floats, Shape{})},
                                 {"empty", ConstTensorView(floats, {0, 4})}};
  ASSERT_TRUE(write_safetensors(path("f"), tensors, {{"format", "pt"}}));
  const auto file = SafetensorsFile::open(path("f"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->metadata().at("format"), "pt");
  const ConstTensorView f32 = *file->find("f32");
  EXPECT_EQ(f32.shape(), (Shape{2, 3}));
  EXPECT_THAT(std::span(f32.data<float>(), std::size(floats)), testing::ElementsAreArray(floats));
  EXPECT_EQ(file->find("u8")->data<uint8_t>()[2], 9);
  EXPECT_EQ(file->find("scalar")->shape().rank(), 0);
  EXPECT_EQ(file->find("empty")->numel(), 0);
  EXPECT_THAT(file->find("none").error().message, HasSubstr("holds no tensor \"none\""));
}

TEST_F(SafetensorsTest, views_survive_a_move_and_forgotten_pages) {
  std::vector<float> values(5000, 3.0f);
  const NamedTensor tensors[] = {{"x", ConstTensorView(values.data(), {5000})}};
  ASSERT_TRUE(write_safetensors(path("f"), tensors));
  auto file = SafetensorsFile::open(path("f"));
  const ConstTensorView view = *file->find("x");
  const SafetensorsFile moved = std::move(*file);
  moved.forget(view);
  EXPECT_EQ(view.data<float>()[4999], 3.0f);
}

TEST_F(SafetensorsTest, copies_tensors_at_unaligned_offsets) {
  const std::string file = write_raw(
      R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]}})",
      9);
  const auto opened = SafetensorsFile::open(file);
  ASSERT_TRUE(opened) << opened.error().message;
  const ConstTensorView view = *opened->find("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(view.raw()) % 4, 0u);
  uint32_t bits = 0;
  std::memcpy(&bits, view.data<float>() + 1, 4);
  EXPECT_EQ(bits, 0x01010101u);
}

TEST_F(SafetensorsTest, refuses_headers_that_lie_about_sizes) {
  expect_refused(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})", 4,
                 "tensor \"a\" of dtype F32 and shape [2] takes 8 bytes, but its data_offsets span 4");
  expect_refused(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 4,
                 "tensor \"a\" ends at byte 8 of the data, but the file holds 4 (is it truncated?)");
  expect_refused(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 9,
                 "holds 9 bytes of data, but its tensors cover 8");
  expect_refused(R"({"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}})", 0,
                 "takes more than 2^63 bytes");
  expect_refused(
      R"({"a": {"dtype": "U8", "shape": [0, 4611686018427387904, 4611686018427387904], "data_offsets": [0, 0]}})",
      0, "takes more than 2^63 bytes");
  expect_refused(R"({"a": {"dtype": "U8", "shape": [18446744073709551615], "data_offsets": [0, 1]}})", 1,
                 "dimension that is not a non-negative integer");
  expect_refused(R"({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}})", 1, "dimension");
  expect_refused(R"({"a": {"dtype": "U8", "shape": [1.0], "data_offsets": [0, 1]}})", 1, "dimension");
  expect_refused(R"({"a": {"dtype": "U8", "shape": [1,1,1,1,1,1], "data_offsets": [0, 1]}})", 1,
                 "at most 5 dimensions");
}

TEST_F(SafetensorsTest, refuses_overlaps_and_holes) {
  expect_refused(
      R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}})",
      6, "tensor \"b\" begins at byte 2, but \"a\" ends at byte 4 (they overlap)");
  expect_refused(
      R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "b": {"dtype": "U8", "shape": [2], "data_offsets": [4, 6]}})",
      6, "tensor \"b\" begins at byte 4, but \"a\" ends at byte 2 (there is a hole)");
  expect_refused(R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}})", 3,
                 "but the data begins at byte 0");
}

TEST_F(SafetensorsTest, refuses_malformed_entries) {
  expect_refused(R"({"a": {"dtype": "F31", "shape": [], "data_offsets": [0, 0]}})", 0,
                 "tensor \"a\" has the unknown dtype \"F31\"");
  expect_refused(R"({"a": 1})", 0, "needs \"dtype\", \"shape\" and \"data_offsets\"");
  expect_refused(R"({"a": {"dtype": "U8", "shape": [1]}})", 1, "needs \"dtype\"");
  expect_refused(R"({"a": {"dtype": "U8", "shape": {}, "data_offsets": [0, 1]}})", 1, "\"shape\"");
  expect_refused(R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 0]}})", 1, "ascending");
  expect_refused(R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}})", 1, "data_offsets");
  expect_refused(
      R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})",
      1, "the key \"a\" occurs twice");
  expect_refused("[]", 0, "not a JSON object");
  expect_refused("{", 0, "header: invalid JSON");
  expect_refused(R"({"__metadata__": {"a": 1}})", 0, "__metadata__");
}

TEST_F(SafetensorsTest, refuses_impossible_header_lengths) {
  const auto refused = [&](const std::string& bytes) {
    const auto opened = SafetensorsFile::open(write("f", bytes));
    EXPECT_FALSE(opened);
    return opened ? "" : opened.error().message;
  };
  EXPECT_THAT(refused("abc"), HasSubstr("is 3 bytes long, too short"));
  EXPECT_THAT(refused(std::string(8, '\xff')), HasSubstr("more than the limit of 100000000"));
  EXPECT_THAT(refused(std::string("\x10\0\0\0\0\0\0\0{}", 10)),
              HasSubstr("claims a header of 16 bytes, but only 2"));
}

TEST_F(SafetensorsTest, an_abandoned_writer_leaves_no_file) {
  {
    auto writer = SafetensorsWriter::create(path("f"), {{"a", DType::kU8, {4}}});
    ASSERT_TRUE(writer);
    const std::byte byte{1};
    ASSERT_TRUE(writer->write({&byte, 1}));
    EXPECT_THROW((void)writer->commit(), InternalError);
  }
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

class SafetensorsFolderTest : public SafetensorsTest {
 protected:
  void write_shards(const std::string& index) const {
    const uint8_t byte = 1;
    const NamedTensor a[] = {{"a", ConstTensorView(&byte, {1})}};
    const NamedTensor b[] = {{"b", ConstTensorView(&byte, {1})}};
    ASSERT_TRUE(write_safetensors(path("1.safetensors"), a));
    ASSERT_TRUE(write_safetensors(path("2.safetensors"), b));
    write("model.safetensors.index.json", index);
  }

  void expect_folder_refused(const std::string& why) const {
    const auto opened = SafetensorsFolder::open(folder_.path());
    ASSERT_FALSE(opened);
    EXPECT_THAT(opened.error().message, HasSubstr(why));
  }
};

TEST_F(SafetensorsFolderTest, joins_the_shards_of_an_index) {
  write_shards(R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})");
  const auto opened = SafetensorsFolder::open(folder_.path());
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_EQ(opened->tensors().size(), 2u);
  EXPECT_EQ(opened->tensors().find("b")->second.file->path(), path("2.safetensors"));
}

TEST_F(SafetensorsFolderTest, refuses_an_index_that_leaves_the_folder) {
  for (const char* shard :
       {"\"../1.safetensors\"", "\"/etc/passwd\"", "\"sub/1.safetensors\"", "\"..\"", "\"\"", "7"}) {
    write_shards(std::string(R"({"weight_map": {"a": )") + shard + "}}");
    expect_folder_refused(std::string("tensor \"a\" is said to be in ") + shard +
                          ", which is not a file of this folder");
  }
}

TEST_F(SafetensorsFolderTest, refuses_an_index_and_shards_that_disagree) {
  write_shards(R"({"weight_map": {"a": "1.safetensors", "b": "1.safetensors"}})");
  expect_folder_refused("1.safetensors: lacks tensor \"b\", which model.safetensors.index.json lists in it");
  write_shards(R"({"weight_map": {"a": "2.safetensors", "b": "2.safetensors"}})");
  expect_folder_refused("2.safetensors: lacks tensor \"a\"");
  write_shards(R"({"weight_map": {"a": "1.safetensors", "c": "2.safetensors"}})");
  expect_folder_refused(
      "2.safetensors: holds tensor \"b\", which model.safetensors.index.json does not list");
  write_shards(R"({"weight_map": {"a": "3.safetensors"}})");
  expect_folder_refused("3.safetensors: cannot open: No such file");
}

TEST_F(SafetensorsFolderTest, refuses_folders_without_weights_and_bad_indexes) {
  expect_folder_refused("holds neither model.safetensors nor model.safetensors.index.json");
  write_shards("{}");
  expect_folder_refused("holds no \"weight_map\" object");
  write_shards("[");
  expect_folder_refused("invalid JSON");
}

}  // namespace
}  // namespace nemoforge::io
