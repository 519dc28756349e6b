// The dense MLP, and the shared expert: down_proj(relu(up_proj(x))^2).
//
// Source: transformers models/nemotron_h/modeling_nemotron_h.py NemotronHMLP.
#pragma once

#include "model/layers/forward_context.h"
#include "model/weights.h"

namespace nemoforge::model {

// What the layer computes on the way, each in its own memory: the backward pass reads it.
struct MlpActivations {
  TensorView up;         // [num_rows, intermediate size]
  TensorView activated;  // like up
  TensorView out;        // [num_rows, hidden_size]
};

// x [num_rows, hidden_size]; the targets tell adapters of a dense MLP from those of a shared expert.
[[nodiscard]] MlpActivations mlp(const ForwardContext& context, const MlpWeights& weights,
                                 const ConstTensorView& x, LoraTarget up_target, LoraTarget down_target);

}  // namespace nemoforge::model
