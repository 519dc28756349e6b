// The checkpoint that a command works with: the flags that name it, and everything loaded.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "model/lora_adapter.h"
#include "model/model.h"
#include "ops/backend.h"

namespace CLI {
class App;
}

namespace nemoforge::cli {

struct ModelFlags {
  std::string model;            // checkpoint folder
  std::string device = "auto";  // auto, cpu, cuda, reference
  std::string dtype = "auto";   // auto, fp32, bf16
  std::string lora;             // adapter folder; empty: none
  std::string load_format =
      "auto";  // auto: the folder's safetensors; dummy: random weights of its config.json
  double gpu_memory_utilization = 0.9;  // of commands that run the engine
};

// --model, --device, --dtype and --load-format.
void add_checkpoint_flags(CLI::App& command, ModelFlags& flags);
// Those and --lora.
void add_model_flags(CLI::App& command, ModelFlags& flags);

// --gpu-memory-utilization, for commands that run the engine.
void add_engine_memory_flag(CLI::App& command, ModelFlags& flags);

// A model on its backend, and an adapter for it. Heap-allocated parts, so that it can be moved while others
// point at them.
struct LoadedModel {
  std::unique_ptr<ops::Backend> backend;
  std::unique_ptr<model::Model> model;
  std::shared_ptr<const model::LoraAdapter> adapter;  // null: none
};

// The type that --dtype names. auto: fp32 on host backends (bf16 weights stay bf16 in the file's map and cost
// the same bytes), bf16 on the GPU.
[[nodiscard]] Result<DType> compute_dtype(const std::string& name, const ops::Backend& backend);

// The adapter in `path` for a loaded model.
[[nodiscard]] Result<std::shared_ptr<const model::LoraAdapter>> load_adapter(const std::string& path,
                                                                             const LoadedModel& loaded);

[[nodiscard]] Result<LoadedModel> load_model(const ModelFlags& flags);

}  // namespace nemoforge::cli
