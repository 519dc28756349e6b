#include "train/recipe.h"

#include <string>

#include <gtest/gtest.h>

#include "base/temporary_folder.h"
#include "io/file.h"

namespace nemoforge::train {
namespace {

class RecipeTest : public testing::Test {
 protected:
  RecipeTest() {
    const std::string user = R"({"role":"user","content":"hi"})";
    const std::string rows = "{\"messages\":[" + user + R"(,{"role":"assistant","content":"1"}]})" + "\n\n" +
                             "{\"messages\":[" + user + R"(,{"role":"assistant","content":null}]})" + "\n" +
                             "{\"messages\":[" + user + R"(,{"role":"assistant","content":"3"}]})" + "\n";
    EXPECT_TRUE(io::write_file_atomically(data_, rows));
    training_.lines = {1, 3};
    evaluation_.lines = {4};
    options_.lora = &lora_;
    options_.model = "some/model";
  }

  std::string write(const char* file) {
    const auto written = write_recipe(folder_.path(""), data_, training_, &evaluation_, data_, options_);
    EXPECT_TRUE(written.has_value()) << written.error().to_string();
    return read(file);
  }
  std::string read(const char* file) { return io::read_file(folder_.path(file)).value(); }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string data_ = folder_.path("data.jsonl");
  SftDataset training_;
  SftDataset evaluation_;
  LoraOptions lora_;
  RecipeOptions options_;
};

TEST_F(RecipeTest, rows_are_those_of_the_split_without_null_contents) {
  (void)write("recipe.yaml");
  EXPECT_EQ(read("training.jsonl"),
            R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"1"}]})"
            "\n"
            R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":""}]})"
            "\n");
  EXPECT_NE(read("validation.jsonl").find(R"("3")"), std::string::npos);
}

TEST_F(RecipeTest, automodel_adapts_what_the_targets_say) {
  lora_.targets.shared_experts = false;
  options_.trainer.packing.grad_accum = 9;
  const std::string text = write("recipe.yaml");
  EXPECT_NE(text.find(R"(exclude_modules: ["*.out_proj","*.gate","lm_head","*.shared_experts.*"])"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("global_batch_size: 16\n"), std::string::npos);
  EXPECT_NE(text.find("eps: 1.0e-08\n"), std::string::npos);
  EXPECT_NE(text.find("validation_dataset:"), std::string::npos);
  options_.lora = nullptr;
  EXPECT_EQ(write("recipe.yaml").find("peft:"), std::string::npos);
}

TEST_F(RecipeTest, megatron_bridge_takes_the_recipe_of_the_method) {
  options_.engine = RecipeEngine::kMegatronBridge;
  options_.trainer.max_steps = 77;
  lora_.targets.shared_experts = false;
  const std::string text = write("recipe.py");
  EXPECT_NE(text.find(R"("*.mlp.experts.linear_fc1")"), std::string::npos) << text;
  EXPECT_NE(text.find("cfg.train.train_iters = 77\n"), std::string::npos);
  options_.lora = nullptr;
  EXPECT_NE(write("recipe.py").find("nemotron_3_nano_sft_8gpu_h100_bf16_config()"), std::string::npos);
}

TEST_F(RecipeTest, refuses_a_scale_that_the_engines_lack) {
  lora_.use_rslora = true;
  const auto written = write_recipe(folder_.path(""), data_, training_, nullptr, data_, options_);
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(written.error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace nemoforge::train
