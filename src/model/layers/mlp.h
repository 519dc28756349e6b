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

// The mixer of a dense layer. x [num_rows, hidden_size]; `out` is f32.
[[nodiscard]] MlpActivations dense_mlp(const ForwardContext& context, const MlpWeights& weights,
                                       const ConstTensorView& x);

// The expert of a mixture that sees every token; `out` has the activations' dtype.
[[nodiscard]] MlpActivations shared_expert(const ForwardContext& context, const MlpWeights& weights,
                                           const ConstTensorView& x);

}  // namespace nemoforge::model
