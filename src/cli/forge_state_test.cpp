#include "cli/forge_state.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "base/temporary_folder.h"

namespace nemoforge::cli {
namespace {

class ForgeStateTest : public testing::Test {
 protected:
  void SetUp() override {
    settings_.out = folder_.path();
    settings_.model = "model";
    stage_ = {"round 1: dataset", {}, settings_.path("sft.jsonl")};
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  ForgeSettings settings_;
  ForgeStage stage_;
};

TEST_F(ForgeStateTest, keeps_what_is_done) {
  auto first = ForgeState::open(settings_);
  ASSERT_TRUE(first.has_value());
  EXPECT_FALSE(first->is_done(stage_));
  std::ofstream(stage_.output) << "{}\n";
  EXPECT_FALSE(first->is_done(stage_));
  ASSERT_TRUE(first->set_done(stage_).has_value());
  const auto again = ForgeState::open(settings_);
  ASSERT_TRUE(again.has_value());
  EXPECT_TRUE(again->is_done(stage_));
}

TEST_F(ForgeStateTest, a_stage_whose_output_is_gone_is_not_done) {
  auto state = ForgeState::open(settings_);
  ASSERT_TRUE(state.has_value());
  std::ofstream(stage_.output) << "{}\n";
  ASSERT_TRUE(state->set_done(stage_).has_value());
  std::filesystem::remove(stage_.output);
  EXPECT_FALSE(state->is_done(stage_));
}

TEST_F(ForgeStateTest, names_the_setting_that_changed) {
  ASSERT_TRUE(ForgeState::open(settings_).has_value());
  settings_.finetune_flags = {"--epochs", "3"};
  const auto changed = ForgeState::open(settings_);
  ASSERT_FALSE(changed.has_value());
  EXPECT_EQ(changed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(changed.error().message.find("finetune flags was [], now [\"--epochs\",\"3\"]"),
            std::string::npos)
      << changed.error().message;
}

TEST_F(ForgeStateTest, refuses_a_file_that_is_no_state) {
  std::ofstream(settings_.path("forge.json")) << "[1]";
  const auto state = ForgeState::open(settings_);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code, ErrorCode::kInvalidData);
}

}  // namespace
}  // namespace nemoforge::cli
