// The mixture of experts: a router sends each token to its top-k experts, a shared expert sees every token.
//
//   out[t] = sum_k weight[t, k] * expert_{id[t, k]}(x[t]) + shared(x[t]),   expert(x) = down(relu(up(x))^2)
//
// Source: transformers models/nemotron_h/modeling_nemotron_h.py NemotronHMoE, NemotronHExperts,
// NemotronHTopkRouter.
#pragma once

#include "model/layers/forward_context.h"
#include "model/layers/mlp.h"
#include "model/weights.h"

namespace nemoforge::model {

// What the layer computes on the way, each in its own memory: the backward pass reads it. Rows "sorted" are
// those of moe_dispatch: num_rows * num_experts_per_tok, by expert.
struct MoeActivations {
  TensorView router_logits;   // [num_rows, n_routed_experts] f32
  TensorView expert_ids;      // [num_rows, num_experts_per_tok] i32
  TensorView expert_weights;  // [num_rows, num_experts_per_tok] f32
  TensorView offsets;         // [n_routed_experts + 1] i32
  TensorView row_tokens;      // [sorted] i32
  TensorView row_of;          // [num_rows, num_experts_per_tok] i32
  TensorView dispatched;      // [sorted, hidden_size]
  TensorView up;              // [sorted, moe_intermediate_size]
  TensorView activated;       // like up
  TensorView expert_out;      // [sorted, hidden_size]
  MlpActivations shared;
  TensorView out;  // [num_rows, hidden_size] f32
};

// x [num_rows, hidden_size].
[[nodiscard]] MoeActivations moe(const ForwardContext& context, const MoeWeights& weights,
                                 const ConstTensorView& x);

}  // namespace nemoforge::model
