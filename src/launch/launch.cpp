#include "launch/launch.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "io/json.h"

namespace nemoforge::launch {
namespace {

const char* name_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kBf16:
      return "BF16";
    case WeightFormat::kFp8:
      return "FP8";
    case WeightFormat::kNvfp4:
      return "NVFP4";
  }
  return "";
}

// What ModelOpt wrote beside the weights; empty where the folder says nothing of quantization.
Result<std::string> quantization_of(const std::string& folder) {
  const std::string path = folder + "/hf_quant_config.json";
  if (!std::filesystem::exists(path)) return std::string();
  NF_TRY(const io::Json json, io::read_json_file(path));
  const auto quantization = json.find("quantization");
  if (quantization == json.end() || !quantization->is_object()) return std::string();
  const auto algorithm = quantization->find("quant_algo");
  if (algorithm == quantization->end() || algorithm->is_null()) return std::string();
  return algorithm->is_string() ? algorithm->get<std::string>() : io::dump_json(*algorithm);
}

Status check_format(const LaunchConfig& config) {
  if (!std::filesystem::is_directory(config.model)) return {};  // on the hub, or on another machine
  NF_TRY(const std::string algorithm, quantization_of(config.model));
  const std::string found = algorithm.empty() ? "BF16" : algorithm;
  if (found == name_of(config.format)) return {};
  return error(
      ErrorCode::kInvalidArgument,
      fmt::format("{}: expected a {} checkpoint, found {}", config.model, name_of(config.format), found),
      "--dtype names the format of the weights on disk; the servers do not convert");
}

int64_t highest(const io::Json& adapter, const char* pattern, int64_t rank) {
  const auto found = adapter.find(pattern);
  if (found == adapter.end() || !found->is_object()) return rank;
  for (const auto& value : *found)
    if (value.is_number_integer()) rank = std::max(rank, value.get<int64_t>());
  return rank;
}

Result<int64_t> adapter_rank(const Adapter& adapter) {
  const std::string path = adapter.dir + "/adapter_config.json";
  NF_TRY(const io::Json json, io::read_json_file(path));
  const auto rank = json.find("r");
  if (rank == json.end() || !rank->is_number_integer() || rank->get<int64_t>() < 1)
    return error(ErrorCode::kInvalidData, path + ": expected r, a positive integer");
  return highest(json, "rank_pattern", rank->get<int64_t>());
}

Result<int64_t> highest_rank(const std::vector<Adapter>& adapters) {
  int64_t highest_rank = 0;
  for (const Adapter& adapter : adapters) {
    NF_TRY(const int64_t rank, adapter_rank(adapter));
    highest_rank = std::max(highest_rank, rank);
  }
  return highest_rank;
}

// vLLM compiles its kernels for these ranks (--max-lora-rank takes no others).
Result<int64_t> vllm_rank(int64_t rank) {
  constexpr std::array<int64_t, 9> kRanks = {1, 8, 16, 32, 64, 128, 256, 320, 512};
  const auto* found = std::lower_bound(kRanks.begin(), kRanks.end(), rank);
  if (found == kRanks.end())
    return error(ErrorCode::kUnsupported,
                 fmt::format("vLLM serves adapters of rank 512 at most, found {}", rank),
                 "nemoforge merge makes a checkpoint of model and adapter");
  return *found;
}

using Arguments = std::vector<std::string>;

void add(Arguments& arguments, std::initializer_list<std::string> more) {
  arguments.insert(arguments.end(), more);
}

void add_adapters(Arguments& arguments, const char* flag, const std::vector<Adapter>& adapters) {
  arguments.emplace_back(flag);
  for (const Adapter& adapter : adapters) arguments.push_back(adapter.name + "=" + adapter.dir);
}

void set_vllm_environment(const LaunchConfig& config, CommandLine& command) {
  const bool has_adapters = !config.adapters.empty();
  // vLLM has LoRA of routed experts in its Triton kernels alone, not in FlashInfer's.
  if (config.format == WeightFormat::kFp8 && !has_adapters) {
    command.environment.emplace_back("VLLM_USE_FLASHINFER_MOE_FP8", "1");
    command.environment.emplace_back("VLLM_FLASHINFER_MOE_BACKEND", "throughput");
  }
  // FlashInfer's FP4 kernels need compute capability 10.0; asked for on Hopper, vLLM refuses to start. There
  // it takes Marlin by itself: 4-bit weights, 16-bit activations.
  if (config.format == WeightFormat::kNvfp4 && config.gpu == Gpu::kBlackwell) {
    command.environment.emplace_back("VLLM_USE_FLASHINFER_MOE_FP4", "1");
    command.environment.emplace_back("VLLM_FLASHINFER_MOE_BACKEND", "throughput");
  }
  if (config.max_model_len > kConfiguredLength)
    command.environment.emplace_back("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1");
}

Result<CommandLine> vllm(const LaunchConfig& config, const std::string& model) {
  if (!config.adapters.empty() && config.format == WeightFormat::kNvfp4)
    return error(ErrorCode::kUnsupported, "vLLM does not serve adapters on NVFP4 experts",
                 "take BF16 or FP8, or merge the adapter with nemoforge merge");
  CommandLine command;
  set_vllm_environment(config, command);
  Arguments& arguments = command.arguments;
  add(arguments, {"vllm", "serve", model, "--trust-remote-code", "--async-scheduling"});
  add(arguments, {"--host", config.host, "--port", std::to_string(config.port)});
  add(arguments, {"--tensor-parallel-size", std::to_string(config.tensor_parallel_size)});
  add(arguments, {"--max-model-len", std::to_string(config.max_model_len)});
  add(arguments, {"--kv-cache-dtype", config.format == WeightFormat::kBf16 ? "auto" : "fp8"});
  if (config.max_num_seqs > 0) add(arguments, {"--max-num-seqs", std::to_string(config.max_num_seqs)});
  if (!config.served_model_name.empty()) add(arguments, {"--served-model-name", config.served_model_name});
  if (config.tools) add(arguments, {"--enable-auto-tool-choice", "--tool-call-parser", "qwen3_coder"});
  if (config.reasoning) {
    add(arguments, {"--reasoning-parser", "nemotron_v3"});
    // Without it a request's thinking_token_budget is refused.
    add(arguments,
        {"--reasoning-config", R"({"reasoning_start_str": "<think>", "reasoning_end_str": "</think>"})"});
  }
  if (!config.adapters.empty()) {
    NF_TRY(const int64_t rank, highest_rank(config.adapters));
    NF_TRY(const int64_t kernel_rank, vllm_rank(rank));
    add(arguments, {"--enable-lora", "--max-lora-rank", std::to_string(kernel_rank)});
    add(arguments, {"--max-loras", std::to_string(config.adapters.size())});
    add_adapters(arguments, "--lora-modules", config.adapters);
  }
  return command;
}

Result<CommandLine> sglang(const LaunchConfig& config, const std::string& model) {
  if (!config.adapters.empty() && config.format == WeightFormat::kNvfp4 && config.gpu == Gpu::kHopper)
    return error(ErrorCode::kUnsupported, "SGLang serves adapters on NVFP4 experts on Blackwell alone",
                 "take BF16 or FP8, or merge the adapter with nemoforge merge");
  CommandLine command;
  if (config.max_model_len > kConfiguredLength)
    command.environment.emplace_back("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN", "1");
  Arguments& arguments = command.arguments;
  add(arguments, {"python3", "-m", "sglang.launch_server", "--model-path", model, "--trust-remote-code"});
  add(arguments, {"--host", config.host, "--port", std::to_string(config.port)});
  add(arguments, {"--tp", std::to_string(config.tensor_parallel_size)});
  add(arguments, {"--context-length", std::to_string(config.max_model_len)});
  if (config.format != WeightFormat::kBf16) add(arguments, {"--kv-cache-dtype", "fp8_e4m3"});
  if (config.max_num_seqs > 0)
    add(arguments, {"--max-running-requests", std::to_string(config.max_num_seqs)});
  if (!config.served_model_name.empty()) add(arguments, {"--served-model-name", config.served_model_name});
  if (config.tools) add(arguments, {"--tool-call-parser", "qwen3_coder"});
  if (config.reasoning) add(arguments, {"--reasoning-parser", "nano_v3"});
  if (!config.adapters.empty()) {
    NF_TRY(const int64_t rank, highest_rank(config.adapters));
    add(arguments, {"--enable-lora", "--max-lora-rank", std::to_string(rank)});
    // The base model takes a place of the batch, too.
    add(arguments, {"--max-loras-per-batch", std::to_string(config.adapters.size() + 1)});
    // Without it weights that match no module are dropped in silence.
    add(arguments, {"--lora-strict-loading"});
    add_adapters(arguments, "--lora-paths", config.adapters);
  }
  return command;
}

std::string quoted(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,@%+";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

}  // namespace

std::string CommandLine::to_shell() const {
  std::string text;
  for (const auto& [name, value] : environment) text += name + "=" + quoted(value) + " \\\n";
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (i > 0) text += arguments[i].starts_with("--") ? " \\\n  " : " ";
    text += quoted(arguments[i]);
  }
  return text + "\n";
}

Result<CommandLine> command_line(Server server, const LaunchConfig& config) {
  if (config.max_model_len < 1 || config.max_model_len > kLongestLength)
    return error(ErrorCode::kInvalidArgument, fmt::format("--max-model-len: expected 1 to {}, found {}",
                                                          kLongestLength, config.max_model_len));
  if (config.tensor_parallel_size < 1)
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("--tensor-parallel-size: expected 1 or more, found {}", config.tensor_parallel_size));
  std::string model = config.model;
  if (model.empty())
    model = std::string("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-") + name_of(config.format);
  else
    NF_RETURN_IF_ERROR(check_format(config));
  auto command = server == Server::kVllm ? vllm(config, model) : sglang(config, model);
  if (command) command->arguments.insert(command->arguments.end(), config.extra.begin(), config.extra.end());
  return command;
}

Status check_model_is_here(const LaunchConfig& config) {
  const bool is_path = config.model.starts_with('/') || config.model.starts_with('.');
  if (!is_path || std::filesystem::is_directory(config.model)) return {};
  return error(ErrorCode::kNotFound, config.model + ": no such folder");
}

Status execute(const CommandLine& command) {
  for (const auto& [name, value] : command.environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<std::string> words = command.arguments;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  const int code = errno;
  return error(code == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
               fmt::format("{} cannot be started: {}", words[0], std::strerror(code)),
               words[0] == "vllm" ? "pip install vllm, or run the line that --dry-run prints elsewhere"
                                  : "pip install sglang, or run the line that --dry-run prints elsewhere");
}

}  // namespace nemoforge::launch
