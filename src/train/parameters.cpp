#include "train/parameters.h"

namespace nemoforge::train {

std::string_view module_class_name(ModuleClass module_class) {
  constexpr std::array<std::string_view, kNumModuleClasses> kNames = {
      "embeddings", "mamba", "attention", "router", "experts", "shared experts", "mlp", "norms", "head"};
  return kNames.at(static_cast<size_t>(module_class));
}

int64_t ParameterSet::num_elements() const {
  int64_t count = 0;
  for (const Parameter& parameter : parameters) count += parameter.value.numel();
  return count;
}

std::array<int64_t, kNumModuleClasses> ParameterSet::num_elements_by_class() const {
  std::array<int64_t, kNumModuleClasses> counts{};
  for (const Parameter& parameter : parameters) {
    counts.at(static_cast<size_t>(parameter.module_class)) += parameter.value.numel();
  }
  return counts;
}

std::array<int64_t, kNumModuleClasses> ParameterSet::num_tensors_by_class() const {
  std::array<int64_t, kNumModuleClasses> counts{};
  for (const Parameter& parameter : parameters) ++counts.at(static_cast<size_t>(parameter.module_class));
  return counts;
}

}  // namespace nemoforge::train
