#include "cli/loaded_model.h"

#include <utility>

#include <CLI/CLI.hpp>

#include "base/log.h"
#include "ops/device_choice.h"

namespace nemoforge::cli {
namespace {

constexpr uint64_t kDummySeed = 1;

}  // namespace

Result<DType> compute_dtype(const std::string& name, const ops::Backend& backend) {
  if (name == "fp32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "auto") return backend.shares_host_memory() ? DType::kF32 : DType::kBF16;
  return error(ErrorCode::kInvalidArgument, "unknown dtype '" + name + "'", "auto, fp32 or bf16");
}

void add_checkpoint_flags(CLI::App& command, ModelFlags& flags) {
  command.add_option("--model", flags.model, "Checkpoint folder in Hugging Face format")->required();
  command.add_option("--device", flags.device, "Device that runs the model (auto: the GPU if there is one)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "reference"}))
      ->capture_default_str();
  command
      .add_option("--dtype", flags.dtype,
                  "Data type of the activations (auto: fp32 on the CPU, bf16 on a GPU)")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}))
      ->capture_default_str();
  command
      .add_option("--load-format", flags.load_format,
                  "Weights to use; auto: the folder's, dummy: random bf16 weights of the dimensions in its "
                  "config.json")
      ->check(CLI::IsMember({"auto", "dummy"}))
      ->capture_default_str();
}

void add_model_flags(CLI::App& command, ModelFlags& flags) {
  add_checkpoint_flags(command, flags);
  command.add_option("--lora", flags.lora, "Folder of a LoRA adapter in PEFT format");
}

void add_engine_memory_flag(CLI::App& command, ModelFlags& flags) {
  command
      .add_option("--gpu-memory-utilization", flags.gpu_memory_utilization,
                  "Fraction of the GPU's memory for weights, activations and caches together")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str();
}

Result<std::shared_ptr<const model::LoraAdapter>> load_adapter(const std::string& path,
                                                               const LoadedModel& loaded) {
  NF_TRY(model::LoraAdapter adapter, model::LoraAdapter::load(path, loaded.model->config(), *loaded.backend));
  for (const auto& [module, count] : adapter.matched())
    spdlog::debug("{}: {} pairs of {}", path, count, module);
  return std::make_shared<const model::LoraAdapter>(std::move(adapter));
}

Result<LoadedModel> load_model(const ModelFlags& flags) {
  LoadedModel loaded;
  NF_TRY(const ops::DeviceChoice device, ops::parse_device_choice(flags.device));
  NF_TRY(loaded.backend, ops::make_backend(device));
  NF_TRY(const DType dtype, compute_dtype(flags.dtype, *loaded.backend));
  if (flags.load_format == "dummy") {
    NF_TRY(model::ModelConfig config, model::load_model_config(flags.model));
    // bf16 whatever the activations are, as checkpoints store them.
    NF_TRY(model::Weights weights, model::Weights::random(config, DType::kBF16, kDummySeed, *loaded.backend));
    loaded.model =
        std::make_unique<model::Model>(std::move(config), std::move(weights), dtype, *loaded.backend);
  } else {
    NF_TRY(model::Model model, model::Model::load(flags.model, dtype, *loaded.backend));
    loaded.model = std::make_unique<model::Model>(std::move(model));
  }
  if (!flags.lora.empty()) {
    NF_TRY(loaded.adapter, load_adapter(flags.lora, loaded));
  }
  return loaded;
}

}  // namespace nemoforge::cli
