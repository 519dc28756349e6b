// Command lines of the servers that take over where one card ends: vLLM and SGLang, for Nemotron-3-Nano.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace nemoforge::launch {

enum class Server { kVllm, kSglang };
enum class WeightFormat { kBf16, kFp8, kNvfp4 };
enum class Gpu { kHopper, kBlackwell };

struct Adapter {
  std::string name;
  std::string dir;  // PEFT's layout, adapter_config.json in it
};

struct LaunchConfig {
  std::string model;  // a folder, or a name of Hugging Face's hub; empty: NVIDIA's checkpoint of `format`
  WeightFormat format = WeightFormat::kBf16;
  Gpu gpu = Gpu::kHopper;
  bool tools = false;
  bool reasoning = false;
  int64_t max_model_len = 262'144;  // the length in the checkpoints' config.json; up to 1,048,576
  int64_t tensor_parallel_size = 1;
  int64_t max_num_seqs = 0;  // 0: the server's own choice
  std::vector<Adapter> adapters;
  std::string served_model_name;
  std::string host = "127.0.0.1";
  int64_t port = 8000;
  std::vector<std::string> extra;  // handed on as they are, last, so that they win
};

struct CommandLine {
  std::vector<std::pair<std::string, std::string>> environment;  // set beside what is inherited
  std::vector<std::string> arguments;                            // the program first

  // As a shell would take it, one flag a line.
  [[nodiscard]] std::string to_shell() const;
};

inline constexpr int64_t kConfiguredLength = 262'144;
inline constexpr int64_t kLongestLength = 1'048'576;

// What starts `server` so. Flags after vLLM's recipe and NVIDIA's model cards and SGLang's cookbook for this
// model; docs/scaling.md says what each is for. Errors: a model's folder whose quantization is not `format`,
// an adapter without a readable adapter_config.json, combinations that the server refuses.
[[nodiscard]] Result<CommandLine> command_line(Server server, const LaunchConfig& config);

// kNotFound where the model is named by a path that this machine does not have.
[[nodiscard]] Status check_model_is_here(const LaunchConfig& config);

// Replaces this process; returns only where that failed.
[[nodiscard]] Status execute(const CommandLine& command);

}  // namespace nemoforge::launch
