#include "launch/launch.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/temporary_folder.h"

namespace nemoforge::launch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class LaunchTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(dir_ + "/" + name) << text;
  }
  std::string shell(Server server, const LaunchConfig& config) const {
    const auto command = command_line(server, config);
    return command ? command->to_shell() : "error: " + command.error().to_string();
  }

  TemporaryFolder folder_ = TemporaryFolder::create().value();
  std::string dir_ = folder_.path();
};

TEST_F(LaunchTest, vllm_bf16_is_the_plain_command) {
  EXPECT_EQ(shell(Server::kVllm, {}),
            "vllm serve nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 \\\n"
            "  --trust-remote-code \\\n"
            "  --async-scheduling \\\n"
            "  --host 127.0.0.1 \\\n"
            "  --port 8000 \\\n"
            "  --tensor-parallel-size 1 \\\n"
            "  --max-model-len 262144 \\\n"
            "  --kv-cache-dtype auto\n");
}

TEST_F(LaunchTest, vllm_fp8_has_flashinfer_an_fp8_cache_and_both_parsers) {
  LaunchConfig config;
  config.format = WeightFormat::kFp8;
  config.tools = config.reasoning = true;
  config.tensor_parallel_size = 2;
  EXPECT_EQ(shell(Server::kVllm, config),
            "VLLM_USE_FLASHINFER_MOE_FP8=1 \\\n"
            "VLLM_FLASHINFER_MOE_BACKEND=throughput \\\n"
            "vllm serve nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 \\\n"
            "  --trust-remote-code \\\n"
            "  --async-scheduling \\\n"
            "  --host 127.0.0.1 \\\n"
            "  --port 8000 \\\n"
            "  --tensor-parallel-size 2 \\\n"
            "  --max-model-len 262144 \\\n"
            "  --kv-cache-dtype fp8 \\\n"
            "  --enable-auto-tool-choice \\\n"
            "  --tool-call-parser qwen3_coder \\\n"
            "  --reasoning-parser nemotron_v3 \\\n"
            "  --reasoning-config '{\"reasoning_start_str\": \"<think>\", \"reasoning_end_str\": "
            "\"</think>\"}'\n");
}

TEST_F(LaunchTest, nvfp4_asks_for_flashinfer_on_blackwell_alone) {
  LaunchConfig config;
  config.format = WeightFormat::kNvfp4;
  EXPECT_THAT(shell(Server::kVllm, config),
              AllOf(HasSubstr("30B-A3B-NVFP4 "), HasSubstr("--kv-cache-dtype fp8"), Not(HasSubstr("VLLM_"))));
  config.gpu = Gpu::kBlackwell;
  EXPECT_THAT(shell(Server::kVllm, config),
              AllOf(HasSubstr("VLLM_USE_FLASHINFER_MOE_FP4=1"),
                    HasSubstr("VLLM_FLASHINFER_MOE_BACKEND=throughput"), Not(HasSubstr("MOE_FP8"))));
}

TEST_F(LaunchTest, a_million_tokens_must_be_allowed_and_more_are_refused) {
  LaunchConfig config;
  config.max_model_len = kLongestLength;
  EXPECT_THAT(shell(Server::kVllm, config),
              AllOf(HasSubstr("VLLM_ALLOW_LONG_MAX_MODEL_LEN=1"), HasSubstr("--max-model-len 1048576")));
  EXPECT_THAT(shell(Server::kSglang, config), AllOf(HasSubstr("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1"),
                                                    HasSubstr("--context-length 1048576")));
  config.max_model_len = kLongestLength + 1;
  EXPECT_THAT(shell(Server::kVllm, config),
              HasSubstr("--max-model-len: expected 1 to 1048576, found 1048577"));
}

TEST_F(LaunchTest, sglang_has_its_own_names) {
  LaunchConfig config;
  config.format = WeightFormat::kFp8;
  config.tools = config.reasoning = true;
  config.tensor_parallel_size = 4;
  config.max_num_seqs = 64;
  config.served_model_name = "nano";
  EXPECT_EQ(shell(Server::kSglang, config),
            "python3 -m sglang.launch_server \\\n"
            "  --model-path nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 \\\n"
            "  --trust-remote-code \\\n"
            "  --host 127.0.0.1 \\\n"
            "  --port 8000 \\\n"
            "  --tp 4 \\\n"
            "  --context-length 262144 \\\n"
            "  --kv-cache-dtype fp8_e4m3 \\\n"
            "  --max-running-requests 64 \\\n"
            "  --served-model-name nano \\\n"
            "  --tool-call-parser qwen3_coder \\\n"
            "  --reasoning-parser nano_v3\n");
}

TEST_F(LaunchTest, adapters_bring_their_rank_and_leave_flashinfer_out) {
  write("adapter_config.json", R"({"r": 8, "rank_pattern": {"up_proj": 24}})");
  LaunchConfig config;
  config.format = WeightFormat::kFp8;
  config.adapters = {{"a", dir_}, {"b", dir_}};
  EXPECT_THAT(shell(Server::kVllm, config),
              AllOf(HasSubstr("--enable-lora \\\n  --max-lora-rank 32 \\\n  --max-loras 2 \\\n"),
                    HasSubstr("--lora-modules a=" + dir_ + " b=" + dir_), Not(HasSubstr("FLASHINFER"))));
  EXPECT_THAT(shell(Server::kSglang, config),
              AllOf(HasSubstr("--max-lora-rank 24 \\\n  --max-loras-per-batch 3 \\\n  --lora-strict-loading"),
                    HasSubstr("--lora-paths a=" + dir_ + " b=" + dir_)));
  config.format = WeightFormat::kNvfp4;
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("error: vLLM does not serve adapters on NVFP4"));
  EXPECT_THAT(shell(Server::kSglang, config), HasSubstr("error: SGLang serves adapters on NVFP4"));
  config.format = WeightFormat::kBf16;
  write("adapter_config.json", R"({"r": 1024})");
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("rank 512 at most, found 1024"));
  write("adapter_config.json", R"({"r": "x"})");
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("expected r, a positive integer"));
  std::filesystem::remove(dir_ + "/adapter_config.json");
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("adapter_config.json"));
}

TEST_F(LaunchTest, a_folder_must_hold_the_format_that_is_asked_for) {
  LaunchConfig config;
  config.model = dir_;
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("vllm serve " + dir_));
  config.format = WeightFormat::kFp8;
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("expected a FP8 checkpoint, found BF16"));
  write("hf_quant_config.json", R"({"quantization": {"quant_algo": "NVFP4"}})");
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("expected a FP8 checkpoint, found NVFP4"));
  config.format = WeightFormat::kNvfp4;
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("vllm serve " + dir_));
  write("hf_quant_config.json", R"({"quantization": {"quant_algo": 4}})");
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("found 4"));
  config.model = "./no_such_folder";
  EXPECT_THAT(shell(Server::kVllm, config), HasSubstr("vllm serve ./no_such_folder"));
  EXPECT_EQ(check_model_is_here(config).error().code, ErrorCode::kNotFound);
  config.model = dir_;
  EXPECT_TRUE(check_model_is_here(config));
}

TEST_F(LaunchTest, what_follows_is_handed_on_and_words_are_quoted) {
  LaunchConfig config;
  config.extra = {"--seed", "it's"};
  EXPECT_THAT(shell(Server::kVllm, config), ::testing::EndsWith("--seed 'it'\\''s'\n"));
}

TEST_F(LaunchTest, a_program_that_is_not_installed_is_an_error) {
  const Status status = execute({{}, {"nemoforge-no-such-program"}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace nemoforge::launch
