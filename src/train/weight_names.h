// The tensors of a model by name, for those who replace or list them.
#pragma once

#include <functional>
#include <string>

#include "model/config.h"
#include "model/weights.h"
#include "tensor/tensor_view.h"
#include "train/parameters.h"

namespace nemoforge::train {

struct NamedWeight {
  std::string name;  // as the hub spells it: "backbone.layers.0.mixer.in_proj.weight"
  ModuleClass module_class = ModuleClass::kEmbeddings;
  ConstTensorView* view = nullptr;  // in the model; may be replaced by one of the same shape
  Shape file_shape;                 // as the checkpoint has it
  bool weight_decay = false;
};

// Calls visit for every tensor that is there, in the order of the layers; for the head not where it is the
// embeddings.
void for_each_weight(model::ModelWeights& weights, const std::function<void(const NamedWeight&)>& visit);

// Whether a tensor never trains: the router's correction bias.
[[nodiscard]] bool is_always_frozen(const NamedWeight& weight);

}  // namespace nemoforge::train
