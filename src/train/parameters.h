// What an optimizer updates: named tensors with their gradients.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor_view.h"

namespace nemoforge::train {

// The part of the model that a parameter belongs to, for the summary of what trains.
enum class ModuleClass : uint8_t {
  kEmbeddings,
  kMamba,
  kAttention,
  kRouter,
  kExperts,
  kSharedExperts,
  kMlp,
  kNorms,  // of layers and the last one; the norm inside a Mamba mixer is kMamba
  kHead,
};
constexpr size_t kNumModuleClasses = 9;

// "embeddings", "mamba", "attention", "router", "experts", "shared experts", "mlp", "norms", "head".
[[nodiscard]] std::string_view module_class_name(ModuleClass module_class);

// Views are contiguous f32 in the backend's memory and stay where they are as long as the model lives.
struct Parameter {
  std::string
      name;  // as the checkpoint ("backbone.layers.0.mixer.in_proj.weight") or PEFT's adapter spells it
  ModuleClass module_class = ModuleClass::kEmbeddings;
  TensorView value;           // in the shape that the file has
  TensorView grad;            // like value
  TensorView copy;            // bf16 like value: what is computed with in its place; absent for none
  bool weight_decay = false;  // matrices, but not embeddings, norms, biases and state-space parameters
};

// The trained tensors of a model, in the order of its layers.
struct ParameterSet {
  std::vector<Parameter> parameters;

  // Elements in all, and by module class (index: ModuleClass).
  [[nodiscard]] int64_t num_elements() const;
  [[nodiscard]] std::array<int64_t, kNumModuleClasses> num_elements_by_class() const;
  // Tensors by module class.
  [[nodiscard]] std::array<int64_t, kNumModuleClasses> num_tensors_by_class() const;
};

}  // namespace nemoforge::train
