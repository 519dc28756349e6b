// A trained adapter as a folder in PEFT's form.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "model/config.h"
#include "train/parameters.h"
#include "train/trainable_model.h"

namespace nemoforge::train {

// How routed experts are laid out, and by whose names.
enum class AdapterLayout {
  // One pair an expert under the hub's names (backbone.layers.N.mixer.experts.E.up_proj): what vLLM and
  // SGLang load.
  kPerExpert,
  // PEFT's target_parameters on transformers 5's module tree (model.layers.N.mixer.experts): A
  // [num_experts * rank, in] with the expert slowest, B [out, rank * num_experts] with the expert fastest;
  // down_proj in the outer wrapper, up_proj in the inner one ("base_layer").
  kPeft3d,
};

// Writes adapter_model.safetensors (f32) and adapter_config.json to `out`, which exists. `set` are the
// parameters of TrainableModel::lora made with `options`; values are in host memory. The configuration names
// `base_model` as the base, and the targets exactly, whatever other layers share their names. It names the
// dropout of the training too, but for kPeft3d with experts, which PEFT does not load with any.
[[nodiscard]] Status write_adapter(const std::string& out, const ParameterSet& set,
                                   const model::ModelConfig& config, const LoraOptions& options,
                                   AdapterLayout layout, const std::string& base_model);

}  // namespace nemoforge::train
