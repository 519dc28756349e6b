// nemoforge launch: starts vLLM or SGLang with the flags that this model wants.
#include "launch/launch.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/standard_input.h"

namespace nemoforge::cli {
namespace {

struct LaunchCommand {
  launch::LaunchConfig config;
  std::string format = "BF16";
  std::string gpu = "hopper";
  std::string max_model_len = "256k";
  std::vector<std::string> adapters;  // NAME=DIR
  bool dry_run = false;
};

const std::map<std::string, launch::WeightFormat> kFormats = {{"BF16", launch::WeightFormat::kBf16},
                                                              {"FP8", launch::WeightFormat::kFp8},
                                                              {"NVFP4", launch::WeightFormat::kNvfp4}};
const std::map<std::string, launch::Gpu> kGpus = {{"hopper", launch::Gpu::kHopper},
                                                  {"blackwell", launch::Gpu::kBlackwell}};

// "256k" and "1M" count in powers of two.
int64_t read_length(const std::string& text) {
  std::string digits = text;
  int64_t unit = 1;
  if (text.ends_with('k') || text.ends_with('K')) unit = int64_t{1} << 10;
  if (text.ends_with('M') || text.ends_with('m')) unit = int64_t{1} << 20;
  if (unit > 1) digits.pop_back();
  const bool is_number =
      !digits.empty() && digits.size() <= 7 && digits.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number)
    throw CLI::ValidationError("--max-model-len",
                               "expected a number of tokens such as 262144, 256k or 1M, got '" + text + "'");
  return std::stoll(digits) * unit;
}

Status run_launch(launch::Server server, LaunchCommand& command) {
  launch::LaunchConfig& config = command.config;
  config.format = kFormats.at(command.format);
  config.gpu = kGpus.at(command.gpu);
  config.max_model_len = read_length(command.max_model_len);
  for (const std::string& flag : command.adapters) {
    const size_t equals = flag.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == flag.size())
      throw CLI::ValidationError("--lora", "expected NAME=DIR, got '" + flag + "'");
    config.adapters.push_back({flag.substr(0, equals), flag.substr(equals + 1)});
  }
  NF_TRY(const launch::CommandLine line, launch::command_line(server, config));
  if (command.dry_run) return write_standard_output(line.to_shell());
  NF_RETURN_IF_ERROR(launch::check_model_is_here(config));
  return launch::execute(line);
}

void add_server(CLI::App& parent, Outcome& outcome, launch::Server server, const std::string& name,
                const std::string& description) {
  auto command = std::make_shared<LaunchCommand>();
  launch::LaunchConfig& config = command->config;
  CLI::App* sub = parent.add_subcommand(name, description);
  sub->callback([&outcome, server, command] { outcome.status = run_launch(server, *command); });
  sub->add_option("--model", config.model,
                  "Checkpoint folder or name on the hub (default: NVIDIA's checkpoint of this --dtype)");
  sub->add_option("--dtype", command->format, "Format of the weights: BF16, FP8 or NVFP4")
      ->check(CLI::IsMember(kFormats))
      ->capture_default_str();
  sub->add_option("--gpu", command->gpu, "GPU generation, hopper or blackwell; selects the NVFP4 kernels")
      ->check(CLI::IsMember(kGpus))
      ->capture_default_str();
  sub->add_flag("--enable-tools", config.tools, "Parse the model's tool calls");
  sub->add_flag("--enable-reasoning", config.reasoning,
                "Separate reasoning from answers, and allow reasoning budgets");
  sub->add_option("--max-model-len", command->max_model_len,
                  "Maximum number of tokens of prompt and completion, up to 1M")
      ->capture_default_str();
  sub->add_option("--tensor-parallel-size", config.tensor_parallel_size,
                  "Number of GPUs that share each layer")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  sub->add_option("--max-num-seqs", config.max_num_seqs,
                  "Maximum number of sequences that run at the same time (default: the server's)")
      ->check(CLI::PositiveNumber);
  sub->add_option("--lora", command->adapters, "Adapter as NAME=DIR; repeatable");
  sub->add_option("--served-model-name", config.served_model_name, "Name of the model for clients");
  sub->add_option("--host", config.host, "Address to listen on")->capture_default_str();
  sub->add_option("--port", config.port, "Port to listen on")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  sub->add_flag("--dry-run", command->dry_run, "Print the command without running it");
  sub->add_option("server-flags", config.extra, "Flags after --, passed on to the server unchanged");
}

}  // namespace

void add_launch_command(CLI::App& app, Outcome& outcome) {
  CLI::App* sub = app.add_subcommand(
      "launch", "Start vLLM or SGLang with the flags that this model needs (docs/scaling.md)");
  sub->require_subcommand(1);
  add_server(*sub, outcome, launch::Server::kVllm, "vllm", "vllm serve");
  add_server(*sub, outcome, launch::Server::kSglang, "sglang", "python3 -m sglang.launch_server");
}

}  // namespace nemoforge::cli
