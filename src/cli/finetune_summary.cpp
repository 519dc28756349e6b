#include "cli/finetune_summary.h"

#include <algorithm>

#include <fmt/format.h>

#include "train/loss.h"

namespace nemoforge::cli {
namespace {

double mib(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

std::string activation_plan(train::TrainableModel& model, const train::LoraOptions* lora, int64_t num_rows) {
  using enum model::LayerKind;
  const model::ModelConfig& config = model.config();
  std::string text;
  for (const model::LayerKind kind : {kMamba, kAttention, kMoe, kMlp}) {
    if (!config.has_layer(kind)) continue;
    const int64_t num_layers = config.num_layers(kind);
    const int64_t layer_bytes = num_rows * train::activation_bytes_per_row(config, kind, lora, model.dtype());
    const std::string name =
        fmt::format("activations of {} {} layers", num_layers, train::layer_kind_name(kind));
    text += model.recomputation().runs_again(kind)
                ? fmt::format("  {:<33} {:>9.1f} for one at a time; to keep them {:.1f}\n", name,
                              mib(layer_bytes), mib(num_layers * layer_bytes))
                : fmt::format("  {:<33} {:>9.1f} kept\n", name, mib(num_layers * layer_bytes));
  }
  return text;
}

// Of a pass: the residual stream, what is kept, the largest layer that runs again with its gradients, a piece
// of the logits and their gradients.
int64_t pass_bytes(train::TrainableModel& model, const train::LoraOptions* lora, int64_t num_rows) {
  const model::ModelConfig& config = model.config();
  int64_t kept = num_rows * config.hidden_size * 4 * (config.num_hidden_layers() + 5);
  int64_t largest = 2 * train::logit_bytes(model.backend());
  for (const model::LayerKind kind : config.layers) {
    const int64_t bytes = num_rows * train::activation_bytes_per_row(config, kind, lora, model.dtype());
    if (!model.recomputation().runs_again(kind)) kept += bytes;
    largest = std::max(largest, 2 * bytes);
  }
  return kept + largest;
}

}  // namespace

std::string data_summary(const train::SftDataset& training,
                         const std::optional<train::SftDataset>& evaluation) {
  std::string text = fmt::format("{} documents, {} tokens, {} of them with loss", training.documents.size(),
                                 training.num_tokens(), training.num_loss_tokens());
  if (training.num_skipped > 0) {
    text += fmt::format("; {} longer ones left out", training.num_skipped);
  }
  if (evaluation) text += fmt::format("; {} held out", evaluation->documents.size());
  return text;
}

std::string parameter_summary(const train::ParameterSet& set) {
  const auto elements = set.num_elements_by_class();
  const auto tensors = set.num_tensors_by_class();
  std::string text = fmt::format("trains {} parameters:\n", set.num_elements());
  for (size_t i = 0; i < train::kNumModuleClasses; ++i) {
    const auto name = train::module_class_name(static_cast<train::ModuleClass>(i));
    if (tensors[i] == 0) {
      text += fmt::format("  {:<15} frozen, or not in the model\n", name);
    } else {
      text += fmt::format("  {:<15} {:>12} in {} tensors\n", name, elements[i], tensors[i]);
    }
  }
  return text;
}

std::string memory_plan(train::TrainableModel& model, const train::LoraOptions* lora,
                        train::MomentFormat moments, int64_t num_rows, int64_t checkpoint_bytes) {
  const train::ParameterSet& set = model.parameters();
  const model::ModelConfig& config = model.config();
  const int64_t values = 4 * set.num_elements();
  const int64_t residuals = num_rows * config.hidden_size * 4 * (config.num_hidden_layers() + 1);
  int64_t copies = 0;
  for (const train::Parameter& parameter : set.parameters) {
    if (parameter.copy) copies += parameter.copy.numel() * dtype_bytes(parameter.copy.dtype());
  }
  std::string text = fmt::format("memory in MiB, for passes of {} rows:\n", num_rows);
  const auto add = [&](const std::string& name, int64_t bytes) {
    text += fmt::format("  {:<33} {:>9.1f}\n", name, mib(bytes));
  };
  add("checkpoint as stored", checkpoint_bytes);
  add("trained values", values);
  if (copies > 0) add("values as they are computed with", copies);
  add("gradients", values);
  add(fmt::format("moments of {}", train::optimizer_name(moments)), train::AdamW::moment_bytes(set, moments));
  add("residual stream", residuals);
  return text + activation_plan(model, lora, num_rows);
}

Status check_memory(train::TrainableModel& model, const train::LoraOptions* lora, train::MomentFormat moments,
                    int64_t num_rows) {
  const auto memory = model.backend().device_memory();
  if (!memory) return {};
  const int64_t needed =
      train::AdamW::moment_bytes(model.parameters(), moments) + pass_bytes(model, lora, num_rows);
  if (needed <= memory->free_bytes) return {};
  return error(
      ErrorCode::kResourceExhausted,
      fmt::format("beside the model, moments and passes of {} rows take {:.0f} MiB; {:.0f} MiB of the "
                  "device's {:.0f} are free",
                  num_rows, mib(needed), mib(memory->free_bytes), mib(memory->total_bytes)),
      "train on fewer rows at a time (--micro-batch-tokens), run more layers again (--recompute all), or "
      "keep 8-bit moments (--optimizer adamw8bit)");
}

}  // namespace nemoforge::cli
