// nemoforge bench: figures beside their floors.
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/decode.h"
#include "bench/load.h"
#include "bench/model_work.h"
#include "bench/prefill.h"
#include "bench/train.h"
#include "cli/command.h"
#include "cli/loaded_model.h"
#include "cli/standard_input.h"
#include "io/json.h"
#include "ops/device_choice.h"
#include "train/trainable_model.h"

namespace nemoforge::cli {
namespace {

struct BenchConfig {
  std::string model;             // checkpoint folder; empty: random weights
  std::string layers = "MEM*E";  // of the random model
  std::string device = "auto";
  std::string dtype = "auto";
  std::string load_format = "auto";
  uint64_t seed = 1;
  bool json = false;
  bench::DecodeOptions decode;
  bench::PrefillOptions prefill;
  std::string load_folder;
  bench::TrainOptions train;
  bool full = false;  // every weight trains, not an adapter
  train::LoraOptions lora;
  std::string lora_targets = "all";
  std::vector<std::string> recompute = {"all"};
};

// The checkpoint, or Nemotron-3-Nano's dimensions with fewer layers and random weights.
Result<LoadedModel> bench_model(const BenchConfig& config) {
  if (!config.model.empty()) {
    return load_model({.model = config.model,
                       .device = config.device,
                       .dtype = config.dtype,
                       .lora = "",
                       .load_format = config.load_format});
  }
  LoadedModel loaded;
  NF_TRY(const ops::DeviceChoice device, ops::parse_device_choice(config.device));
  NF_TRY(loaded.backend, ops::make_backend(device));
  NF_TRY(const DType dtype, compute_dtype(config.dtype, *loaded.backend));
  const model::ModelConfig model_config = bench::nemotron_nano_config(config.layers);
  // Weights in bf16 whatever the activations are, as the checkpoint stores them.
  NF_TRY(model::Weights weights,
         model::Weights::random(model_config, DType::kBF16, config.seed, *loaded.backend));
  loaded.model = std::make_unique<model::Model>(model_config, std::move(weights), dtype, *loaded.backend);
  return loaded;
}

std::string model_name(const BenchConfig& config) {
  return config.model.empty() ? "random " + config.layers : config.model;
}

Status report(const BenchConfig& config, const io::Json& figures, const std::string& text) {
  return write_standard_output((config.json ? io::dump_json(figures) : text) + "\n");
}

Status run_bench_decode(const BenchConfig& config) {
  NF_TRY(LoadedModel loaded, bench_model(config));
  NF_TRY(const bench::DecodeResult result, bench::run_decode(*loaded.model, config.decode));
  return report(
      config,
      {{"bench", "decode"},
       {"model", model_name(config)},
       {"batch_size", config.decode.batch_size},
       {"context_len", config.decode.context_len},
       {"tokens_per_s", result.tokens_per_s},
       {"step_ms",
        {{"p10", 1e3 * result.step.p10_s},
         {"median", 1e3 * result.step.median_s},
         {"p90", 1e3 * result.step.p90_s}}},
       {"weight_bytes", result.weight_bytes},
       {"state_bytes", result.state_bytes},
       {"read_gb_per_s", result.read_gb_per_s},
       {"floor_tokens_per_s", result.floor_tokens_per_s},
       {"fraction", result.fraction}},
      fmt::format(
          "decode {}, batch {}, context {}: {:.1f} tokens/s (step {:.3f} ms; p10 {:.3f}, p90 {:.3f})\n"
          "floor {:.1f} tokens/s: {:.1f} MB of weights and {:.1f} MB of state a step at {:.1f} GB/s; {:.0f}% "
          "of it",
          model_name(config), config.decode.batch_size, config.decode.context_len, result.tokens_per_s,
          1e3 * result.step.median_s, 1e3 * result.step.p10_s, 1e3 * result.step.p90_s,
          result.floor_tokens_per_s, result.weight_bytes / 1e6, result.state_bytes / 1e6,
          result.read_gb_per_s, 100 * result.fraction));
}

Status run_bench_prefill(const BenchConfig& config) {
  NF_TRY(LoadedModel loaded, bench_model(config));
  NF_TRY(const bench::PrefillResult result, bench::run_prefill(*loaded.model, config.prefill));
  return report(
      config,
      {{"bench", "prefill"},
       {"model", model_name(config)},
       {"prompt_len", config.prefill.prompt_len},
       {"chunk_size", config.prefill.chunk_size},
       {"tokens_per_s", result.tokens_per_s},
       {"prompt_ms",
        {{"p10", 1e3 * result.prompt.p10_s},
         {"median", 1e3 * result.prompt.median_s},
         {"p90", 1e3 * result.prompt.p90_s}}},
       {"matmul_flops", result.matmul_flops},
       {"matmul_tokens_per_s", result.matmul_tokens_per_s},
       {"fraction", result.fraction}},
      fmt::format(
          "prefill {}, {} tokens in chunks of {}: {:.1f} tokens/s ({:.1f} ms)\n"
          "the library alone for the same {:.1f} GFLOP of matrix products: {:.1f} tokens/s; {:.0f}% of "
          "it",
          model_name(config), config.prefill.prompt_len, config.prefill.chunk_size, result.tokens_per_s,
          1e3 * result.prompt.median_s, result.matmul_flops / 1e9, result.matmul_tokens_per_s,
          100 * result.fraction));
}

Status run_bench_train(const BenchConfig& config) {
  NF_TRY(const ops::DeviceChoice device, ops::parse_device_choice(config.device));
  NF_TRY(const auto backend, ops::make_backend(device));
  model::ModelConfig model_config = bench::nemotron_nano_config(config.layers);
  if (!config.model.empty()) {
    NF_TRY(model_config, model::load_model_config(config.model));
  }
  NF_TRY(const DType dtype, compute_dtype(config.dtype, *backend));
  const int64_t free_before = bench::free_device_bytes(*backend);
  const bool is_random = config.model.empty() || config.load_format == "dummy";
  NF_TRY(model::Weights weights,
         is_random ? model::Weights::random(model_config, DType::kBF16, config.seed, *backend)
                   : model::Weights::load(config.model, model_config, dtype, *backend));
  const int64_t free_with_weights = bench::free_device_bytes(*backend);
  train::LoraOptions lora = config.lora;
  if (config.lora_targets == "attention") {
    lora.targets = {
        .attention = true, .mamba = false, .shared_experts = false, .experts = false, .mlp = false};
  }
  NF_TRY(train::TrainableModel model,
         config.full ? train::TrainableModel::full(model_config, std::move(weights), *backend, dtype)
                     : train::TrainableModel::lora(model_config, std::move(weights), lora, *backend, dtype));
  NF_TRY(model.recomputation(), train::parse_recomputation(config.recompute));
  NF_TRY(const bench::TrainResult result,
         bench::run_train(model, config.train, free_before, free_with_weights));
  const std::string method =
      config.full ? "full" : fmt::format("LoRA of rank {} on {}", config.lora.rank, config.lora_targets);
  const auto gb = [](int64_t bytes) { return static_cast<double>(bytes) / 1e9; };
  const bench::TrainMemory& memory = result.memory;
  const std::string memory_line =
      memory.total == 0
          ? ""
          : fmt::format(
                "\nGB of the device's memory: weights {:.2f}, trained values and gradients {:.2f}, moments "
                "{:.2f}, activations and scratch {:.2f}; {:.2f} in all",
                gb(memory.weights), gb(memory.trained), gb(memory.moments), gb(memory.activations),
                gb(memory.total));
  return report(
      config,
      {{"bench", "train"},
       {"model", model_name(config)},
       {"method", config.full ? "full" : "lora"},
       {"lora_targets", config.full ? "" : config.lora_targets},
       {"memory_bytes",
        {{"weights", memory.weights},
         {"trained", memory.trained},
         {"moments", memory.moments},
         {"activations", memory.activations},
         {"total", memory.total}}},
       {"sequence_len", config.train.sequence_len},
       {"tokens_per_s", result.tokens_per_s},
       {"step_ms",
        {{"p10", 1e3 * result.step.p10_s},
         {"median", 1e3 * result.step.median_s},
         {"p90", 1e3 * result.step.p90_s}}},
       {"matmul_flops", result.matmul_flops},
       {"matmul_tokens_per_s", result.matmul_tokens_per_s},
       {"fraction", result.fraction}},
      fmt::format(
          "train {}, {}, one document of {} tokens: {:.1f} tokens/s ({:.1f} ms)\n"
          "the library alone for the same {:.1f} GFLOP of matrix products: {:.1f} tokens/s; {:.0f}% of it{}",
          model_name(config), method, config.train.sequence_len, result.tokens_per_s,
          1e3 * result.step.median_s, result.matmul_flops / 1e9, result.matmul_tokens_per_s,
          100 * result.fraction, memory_line));
}

Status run_bench_load(const BenchConfig& config) {
  NF_TRY(const ops::DeviceChoice device, ops::parse_device_choice(config.device));
  NF_TRY(const auto backend, ops::make_backend(device));
  NF_TRY(const DType dtype, compute_dtype(config.dtype, *backend));
  const model::ModelConfig model_config = bench::nemotron_nano_config(config.layers);
  std::error_code failure;
  std::filesystem::create_directories(config.load_folder, failure);
  if (failure) return error(ErrorCode::kIo, config.load_folder + ": " + failure.message());
  NF_RETURN_IF_ERROR(
      bench::write_random_checkpoint(config.load_folder, model_config, DType::kBF16, config.seed));
  NF_TRY(const bench::LoadResult result, bench::run_load(config.load_folder, model_config, dtype, *backend));
  return report(config,
                {{"bench", "load"},
                 {"model", model_name(config)},
                 {"file_bytes", result.file_bytes},
                 {"read_s", result.read_s},
                 {"load_s", result.load_s},
                 {"first_token_s", result.first_token_s},
                 {"peak_memory_bytes", result.peak_memory_bytes}},
                fmt::format("load {} ({:.2f} GB): ready after {:.2f} s, first token after {:.2f} s; reading "
                            "the file once takes {:.2f} s\n"
                            "peak memory {:.2f} GB, {:.2f} of the file",
                            model_name(config), result.file_bytes / 1e9, result.load_s, result.first_token_s,
                            result.read_s, result.peak_memory_bytes / 1e9,
                            result.peak_memory_bytes / result.file_bytes));
}

// A measurement as a subcommand of bench, with the flags that all share.
CLI::App* add_bench(CLI::App& bench, Outcome& outcome, const std::shared_ptr<BenchConfig>& config,
                    const std::string& name, const std::string& description,
                    Status (*run)(const BenchConfig&)) {
  CLI::App* command = add_command(bench, outcome, name, description, [config, run] { return run(*config); });
  command
      ->add_option("--layers", config->layers,
                   "Layers of the random model, in the letters of hybrid_override_pattern")
      ->capture_default_str();
  command
      ->add_option("--device", config->device, "Device that runs the model (auto: the GPU if there is one)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "reference"}))
      ->capture_default_str();
  command->add_option("--seed", config->seed, "Seed of the random weights and tokens")->capture_default_str();
  command->add_flag("--json", config->json, "Print one JSON object instead of text");
  return command;
}

void add_dtype_flag(CLI::App& command, BenchConfig& config) {
  command
      .add_option("--dtype", config.dtype,
                  "Data type of the activations (auto: fp32 on the CPU, bf16 on a GPU)")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}))
      ->capture_default_str();
}

void add_model_flag(CLI::App& command, BenchConfig& config) {
  command.add_option(
      "--model", config.model,
      "Checkpoint folder (default: random bf16 weights of Nemotron-3-Nano's dimensions with --layers)");
}

void add_checkpoint_flags(CLI::App& command, BenchConfig& config) {
  add_model_flag(command, config);
  add_dtype_flag(command, config);
  command
      .add_option(
          "--load-format", config.load_format,
          "Weights to use; auto: the folder's, dummy: random weights of the dimensions in its config.json")
      ->check(CLI::IsMember({"auto", "dummy"}))
      ->capture_default_str();
}

}  // namespace

void add_bench_command(CLI::App& app, Outcome& outcome) {
  CLI::App* bench = app.add_subcommand("bench", "Measure speed next to the hardware limit");
  bench->require_subcommand(1);
  const auto config = std::make_shared<BenchConfig>();

  CLI::App* decode =
      add_bench(*bench, outcome, config, "decode",
                "Measure tokens/s of decode against the bytes that a step must move", run_bench_decode);
  add_checkpoint_flags(*decode, *config);
  decode->add_option("--batch-size", config->decode.batch_size, "Number of sequences per step")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  decode
      ->add_option("--context-len", config->decode.context_len,
                   "Number of tokens of each sequence before the first step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  decode->add_option("--steps", config->decode.num_steps, "Number of timed steps")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();

  CLI::App* prefill = add_bench(
      *bench, outcome, config, "prefill",
      "Measure tokens/s of a prompt against oneDNN (cuBLASLt on a GPU) for the same matrix products",
      run_bench_prefill);
  add_checkpoint_flags(*prefill, *config);
  prefill->add_option("--prompt-len", config->prefill.prompt_len, "Number of tokens of the prompt")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  prefill
      ->add_option("--chunk-size", config->prefill.chunk_size,
                   "Number of rows per pass; must divide the prompt")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  prefill->add_option("--repetitions", config->prefill.repetitions, "Number of timed prompts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();

  CLI::App* train = add_bench(
      *bench, outcome, config, "train",
      "Measure tokens/s of training against oneDNN (cuBLASLt on a GPU) for the same matrix products",
      run_bench_train);
  add_checkpoint_flags(*train, *config);
  train->add_option("--sequence-len", config->train.sequence_len, "Number of tokens of the document")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  train->add_option("--repetitions", config->train.repetitions, "Number of timed passes")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  train->add_option("--rank", config->lora.rank, "Rank of the adapter")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  train
      ->add_option(
          "--recompute", config->recompute,
          "Layers that run again for their gradients: all, none, or some of mamba, attention, moe, mlp")
      ->delimiter(',')
      ->capture_default_str();
  train
      ->add_option("--lora-targets", config->lora_targets,
                   "Linear layers that get an adapter; all: routed experts, too")
      ->check(CLI::IsMember({"all", "attention"}))
      ->capture_default_str();
  train
      ->add_option("--optimizer", config->train.adamw.moments,
                   "Optimizer; adamw: fp32 moments (the default), adamw8bit: 8-bit moments")
      ->transform(CLI::CheckedTransformer(std::map<std::string, train::MomentFormat>{
          {"adamw", train::MomentFormat::kF32}, {"adamw8bit", train::MomentFormat::kBlock8}}));
  train->add_flag("--full", config->full, "Train every weight instead of an adapter");

  CLI::App* load =
      add_bench(*bench, outcome, config, "load",
                "Measure loading a random checkpoint against reading its file once", run_bench_load);
  add_dtype_flag(*load, *config);
  load->add_option("--folder", config->load_folder, "Folder to write the checkpoint to")->required();
}

}  // namespace nemoforge::cli
