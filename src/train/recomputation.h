// Which layers of a training pass are run again for their gradients, and what it costs to keep the others'
// activations.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "tensor/dtype.h"

namespace nemoforge::train {

struct LoraOptions;

// By kind of mixer: it decides how much there is to keep, and how long it takes to have it again. The
// gradients are the same bits either way.
struct Recomputation {
  bool mamba = true;
  bool attention = true;
  bool moe = true;
  bool mlp = true;

  [[nodiscard]] bool runs_again(model::LayerKind kind) const;
};

// From the kinds to run again: "none" or "all" alone, or some of "mamba", "attention", "moe" and "mlp".
// kInvalidArgument for another word.
[[nodiscard]] Result<Recomputation> parse_recomputation(const std::vector<std::string>& kinds);

// "mamba", "moe", "attention", "mlp".
[[nodiscard]] std::string layer_kind_name(model::LayerKind kind);

// Bytes of the activations of one layer of this kind, all counted as `dtype`, for a row: what it takes to
// keep them, and what a layer that runs again takes for as long as it runs (its gradients take as much).
// `lora` is null for full training; dropout keeps a copy of the input of every adapter.
[[nodiscard]] int64_t activation_bytes_per_row(const model::ModelConfig& config, model::LayerKind kind,
                                               const LoraOptions* lora, DType dtype = DType::kF32);

}  // namespace nemoforge::train
