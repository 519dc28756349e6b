// A checkpoint folder in Hugging Face's form, written from another one with some tensors changed.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"
#include "train/parameters.h"
#include "train/trainable_model.h"

namespace nemoforge::train {

// One matrix or vector of a checkpoint: the name that the hub gives it ("backbone.layers.1.mixer.experts.7.
// up_proj.weight", whatever the source's spelling; experts that the source keeps in one tensor come one by
// one) and its elements, to be changed in place.
using EditTensor = std::function<Status(const std::string& name, std::span<float> values)>;
// Whether a tensor will be changed; the others are copied byte for byte.
using IsEdited = std::function<bool(const std::string& name)>;

// Copies the checkpoint `source` to the folder `out`: configuration, tokenizer and template as they are, and
// model.safetensors under the source's names, element types and shapes, each edited tensor rounded once to
// its element type. model.safetensors is written last and whole, so a folder without it is not finished.
// Holds one tensor at a time. kInvalidArgument where `out` is the source.
[[nodiscard]] Status write_checkpoint(const std::string& source, const std::string& out,
                                      const IsEdited& is_edited, const EditTensor& edit);

// The same where `source` has no weights, or none that matter: configuration, tokenizer and template of
// `source` and the model's tensors under the hub's names, rounded once to `dtype`; the state-space parameters
// and the router stay f32. Values are in host memory.
[[nodiscard]] Status write_new_checkpoint(const std::string& source, const std::string& out, DType dtype,
                                          const ParameterSet& set, const std::vector<FrozenTensor>& frozen);

}  // namespace nemoforge::train
