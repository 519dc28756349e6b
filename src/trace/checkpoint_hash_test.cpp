#include "trace/checkpoint_hash.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "base/sha256.h"
#include "base/temporary_folder.h"

namespace nemoforge::trace {
namespace {

class CheckpointHashTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write("config.json", R"({"hidden_size": 8})");
    write("model.safetensors", std::string(1000, 'w'));
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(dir_ + "/" + name) << text;
  }
  [[nodiscard]] std::string hash() const {
    const auto hash = checkpoint_hash(dir_);
    EXPECT_TRUE(hash.has_value()) << hash.error().to_string();
    return hash.value_or("");
  }
  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
};

TEST_F(CheckpointHashTest, changes_with_weights_config_and_names_only) {
  const std::string before = hash();
  EXPECT_EQ(before.size(), 64u);
  write("notes.txt", "not of the checkpoint");
  EXPECT_EQ(hash(), before);
  write("model.safetensors", std::string(999, 'w') + "v");
  EXPECT_NE(hash(), before);
  write("model.safetensors", std::string(1000, 'w'));
  EXPECT_EQ(hash(), before);
  write("config.json", R"({"hidden_size": 9})");
  EXPECT_NE(hash(), before);
  write("config.json", R"({"hidden_size": 8})");
  write("empty.json", "");
  EXPECT_NE(hash(), before);
}

TEST_F(CheckpointHashTest, large_files_are_sampled) {
  const std::string path = dir_ + "/model.safetensors";
  std::filesystem::resize_file(path, uint64_t{1} << 30);  // sparse
  const std::string before = hash();
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(100);
  file << "header";
  file.close();
  EXPECT_NE(hash(), before);
}

TEST_F(CheckpointHashTest, nothing_to_hash_is_an_error) {
  EXPECT_EQ(checkpoint_hash(dir_ + "/absent").error().code, ErrorCode::kNotFound);
  std::filesystem::create_directory(dir_ + "/empty");
  EXPECT_EQ(checkpoint_hash(dir_ + "/empty").error().code, ErrorCode::kNotFound);
}

TEST_F(CheckpointHashTest, chat_template_is_found_where_checkpoints_keep_it) {
  EXPECT_EQ(chat_template_hash(dir_).error().code, ErrorCode::kNotFound);
  write("tokenizer_config.json", R"({"chat_template": "{{ messages }}"})");
  EXPECT_EQ(*chat_template_hash(dir_), sha256_hex("{{ messages }}"));
  write("chat_template.jinja", "{{ 1 }}");
  EXPECT_EQ(*chat_template_hash(dir_), sha256_hex("{{ 1 }}"));
}

}  // namespace
}  // namespace nemoforge::trace
